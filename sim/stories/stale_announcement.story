# The active machine is cut off, the other takes over and dies; when the cut is mended the switch still
# sends packets to the dead machine, until the address is announced again.
users anna ben

1.0s cut all master
2.0s power off standby
2.5s mend all master
6.0s expect active master
6.0s anna calls ben
6.2s expect ben rings
6.5s ben picks up
7.0s anna hangs up
---
1.000s cut all master
    standby keeper: passive -> probing
    master server: unprotected
    standby keeper: probing -> claiming
    standby keeper: claiming -> active
    standby server: serves: 0 calls and 2 logins
2.000s power off standby
2.500s mend all master
6.000s expect active master
6.000s anna calls ben
    anna: calls ben (call 1)
    anna: hears 100 (call 1)
    ben: rings (call 1)
    anna: hears it ring (call 1)
6.200s expect ben rings
6.500s ben picks up
    ben: picks up (call 1)
    anna: talks to ben (call 1)
    ben: is acknowledged (call 1)
7.000s anna hangs up
    anna: hangs up (call 1)
peace
    every promise was kept
