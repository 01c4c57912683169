# A switchover is ordered in the moment in which the two lose each other: only one of them serves.
users anna ben

0.0s anna calls ben
0.3s ben picks up
1.0s cut between standby
1.0s switch master
2.0s expect anna talks
2.5s mend between standby
4.0s expect protected
4.0s ben hangs up
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
1.000s cut between standby
1.000s switch master
    master keeper: active -> yielding
    standby keeper: passive -> probing
    master keeper: yielding -> probing
    master server: serves no more
    master server: unprotected
    standby keeper: probing -> claiming
    standby keeper: claiming -> active
    standby server: serves: 1 calls and 2 logins
2.000s expect anna talks
2.500s mend between standby
    master keeper: probing -> passive
    standby server: protected
4.000s expect protected
4.000s ben hangs up
    ben: hangs up (call 1)
peace
    every promise was kept
