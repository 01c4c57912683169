# A phone holds the call; the server dies before the answer to that leaves.
users anna ben

0.0s anna calls ben
0.5s ben picks up
0.9s before 200 INVITE from master: kill server master
1.0s anna holds
3.0s expect anna talks
3.0s expect ben talks
3.5s ben hangs up
---
0.000s anna calls ben
    anna: calls ben (call 1)
    anna: hears 100 (call 1)
    ben: rings (call 1)
    anna: hears it ring (call 1)
0.500s ben picks up
    ben: picks up (call 1)
    anna: talks to ben (call 1)
    ben: is acknowledged (call 1)
0.900s before 200 INVITE from master: kill server master
1.000s anna holds
    anna: holds (call 1)
    ben: is held (call 1)
    at this moment: kill server master
    master keeper: active -> passive
    standby keeper: passive -> claiming
    standby keeper: claiming -> active
    standby server: serves: 1 calls and 2 logins
    anna: held: 200 (call 1)
    standby server: protected
3.000s expect anna talks
3.000s expect ben talks
3.500s ben hangs up
    ben: hangs up (call 1)
peace
    every promise was kept
