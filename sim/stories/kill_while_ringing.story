# The active server is killed while a phone rings: it rings on, and the answer comes through the other.
users anna ben

0.0s anna calls ben
0.5s kill server master
1.0s expect active standby
1.0s expect ben rings
1.5s ben picks up
1.6s expect anna talks
3.0s anna hangs up
4.0s expect protected
---
0.000s anna calls ben
    anna: calls ben (call 1)
    anna: hears 100 (call 1)
    ben: rings (call 1)
    anna: hears it ring (call 1)
0.500s kill server master
    master keeper: active -> passive
    standby keeper: passive -> claiming
    standby keeper: claiming -> active
    standby server: serves: 1 calls and 2 logins
    standby server: protected
1.000s expect active standby
1.000s expect ben rings
1.500s ben picks up
    ben: picks up (call 1)
    anna: talks to ben (call 1)
    ben: is acknowledged (call 1)
1.600s expect anna talks
3.000s anna hangs up
    anna: hangs up (call 1)
    standby server: call record: Answered
    ben: is hung up (call 1)
    anna: has hung up: 200 (call 1)
4.000s expect protected
peace
    every promise was kept
