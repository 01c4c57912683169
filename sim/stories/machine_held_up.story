# The active machine sleeps for longer than its lease: it wakes up as the passive one.
users anna ben

0.0s anna calls ben
0.5s ben picks up
1.0s hang machine master for 600ms
1.5s expect active standby
2.0s expect active standby
2.0s ben hangs up
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
1.000s hang machine master for 600ms
    standby keeper: passive -> probing
    standby keeper: probing -> claiming
    standby keeper: claiming -> active
    standby server: serves: 1 calls and 2 logins
1.500s expect active standby
    master server: the keeper's lease ran out
    master keeper: active -> cold
    master keeper: cold -> passive
    master server: serves no more
    standby server: protected
2.000s expect active standby
2.000s ben hangs up
    ben: hangs up (call 1)
    standby server: call record: Answered
    anna: is hung up (call 1)
    ben: has hung up: 200 (call 1)
3.000s expect protected
peace
    every promise was kept
