# The active server dies right after it passed the answer on: the ACK reaches the other one.
users anna ben

0.0s anna calls ben
0.1s after 200 INVITE from master: kill server master
0.5s ben picks up
2.0s expect anna talks
2.0s expect ben talks
3.0s anna hangs up
---
0.000s anna calls ben
    anna: calls ben (call 1)
    anna: hears 100 (call 1)
    ben: rings (call 1)
    anna: hears it ring (call 1)
0.100s after 200 INVITE from master: kill server master
0.500s ben picks up
    ben: picks up (call 1)
    at this moment: kill server master
    anna: talks to ben (call 1)
    master keeper: active -> passive
    standby keeper: passive -> claiming
    standby keeper: claiming -> active
    standby server: serves: 1 calls and 2 logins
    ben: is acknowledged (call 1)
    standby server: protected
2.000s expect anna talks
2.000s expect ben talks
3.000s anna hangs up
    anna: hangs up (call 1)
peace
    every promise was kept
