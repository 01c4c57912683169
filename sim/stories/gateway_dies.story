# The gateway dies: nobody is isolated while twin or phones are reached, and nobody takes over for it.
users anna ben
with gateway

0.0s anna calls ben
0.1s ben picks up
1.0s gateway gone
7.0s expect active master
7.0s expect protected
7.5s cut between master
10.0s expect active master
11.0s mend between master
13.0s gateway back
14.0s expect active master
14.0s expect protected
14.0s expect anna talks
15.0s anna hangs up
---
0.000s anna calls ben
    anna: calls ben (call 1)
    anna: hears 100 (call 1)
    ben: rings (call 1)
    anna: hears it ring (call 1)
0.100s ben picks up
    ben: picks up (call 1)
    anna: talks to ben (call 1)
    ben: is acknowledged (call 1)
1.000s gateway gone
7.000s expect active master
7.000s expect protected
7.500s cut between master
    standby keeper: passive -> probing
    master server: unprotected
10.000s expect active master
11.000s mend between master
    standby keeper: probing -> passive
    master server: protected
13.000s gateway back
14.000s expect active master
14.000s expect protected
14.000s expect anna talks
15.000s anna hangs up
    anna: hangs up (call 1)
peace
    every promise was kept
