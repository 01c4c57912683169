# The active server is killed while two talk: they talk on, and either can hang up.
users anna ben

0.0s anna calls ben
0.5s ben picks up
1.0s kill server master
1.5s expect active standby
1.5s expect anna talks
2.0s ben hangs up
2.5s expect anna idle
3.0s expect protected
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
1.000s kill server master
    master keeper: active -> passive
    standby keeper: passive -> claiming
    standby keeper: claiming -> active
    standby server: serves: 1 calls and 2 logins
    standby server: protected
1.500s expect active standby
1.500s expect anna talks
2.000s ben hangs up
    ben: hangs up (call 1)
    standby server: call record: Answered
    anna: is hung up (call 1)
    ben: has hung up: 200 (call 1)
2.500s expect anna idle
3.000s expect protected
peace
    every promise was kept
