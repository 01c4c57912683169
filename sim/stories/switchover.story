# An operator orders a switchover while one call is up and one rings: nothing is lost.
users anna ben carol dora

0.0s anna calls ben
0.3s ben picks up
0.5s carol calls dora
1.0s switch master
1.2s expect active standby
2.0s dora picks up
2.5s expect protected
3.0s anna hangs up
3.0s dora hangs up
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
0.500s carol calls dora
    carol: calls dora (call 2)
    carol: hears 100 (call 2)
    dora: rings (call 2)
    carol: hears it ring (call 2)
1.000s switch master
    master keeper: active -> yielding
    master server: serves no more
    standby keeper: passive -> claiming
    standby keeper: claiming -> active
    master keeper: yielding -> passive
    standby server: serves: 2 calls and 4 logins
    standby server: protected
1.200s expect active standby
2.000s dora picks up
    dora: picks up (call 2)
    carol: talks to dora (call 2)
    dora: is acknowledged (call 2)
2.500s expect protected
3.000s anna hangs up
    anna: hangs up (call 1)
3.000s dora hangs up
    dora: hangs up (call 2)
peace
    every promise was kept
