# The keeper of the active machine dies: its server ends with it, and the other takes over.
users anna ben

0.0s anna calls ben
0.3s ben picks up
1.0s kill keeper master
1.5s expect active standby
2.5s expect protected
3.0s ben hangs up
---
0.000s anna calls ben
    anna: calls ben (call 1)
    anna: hears 100 (call 1)
    ben: rings (call 1)
    anna: hears it ring (call 1)
0.300s ben picks up
    ben: picks up (call 1)
    anna: talks to ben (call 1)
    ben: is acknowledged (call 1)
1.000s kill keeper master
    standby keeper: passive -> probing
    standby keeper: probing -> claiming
    standby keeper: claiming -> active
    standby server: serves: 1 calls and 2 logins
    master keeper: cold -> passive
    standby server: protected
1.500s expect active standby
2.500s expect protected
3.000s ben hangs up
    ben: hangs up (call 1)
peace
    every promise was kept
