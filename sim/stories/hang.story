# The active server hangs: its keeper kills it, the other takes over, it comes back passive.
users anna ben

0.0s anna calls ben
0.5s ben picks up
1.0s hang server master
1.6s expect active standby
2.0s anna hangs up
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
1.000s hang server master
    master keeper: active -> passive
    standby keeper: passive -> claiming
    standby keeper: claiming -> active
    standby server: serves: 1 calls and 2 logins
    standby server: protected
1.600s expect active standby
2.000s anna hangs up
    anna: hangs up (call 1)
    standby server: call record: Answered
    ben: is hung up (call 1)
    anna: has hung up: 200 (call 1)
3.000s expect protected
peace
    every promise was kept
