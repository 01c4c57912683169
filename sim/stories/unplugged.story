# The cable of the active machine is pulled while one call is up and one rings, and plugged again.
users anna ben carol dora

0.0s anna calls ben
0.3s ben picks up
0.5s carol calls dora
1.0s unplug master
1.5s expect active standby
1.5s expect dora rings
2.0s dora picks up
2.5s plug master
3.5s expect active standby
3.5s expect protected
4.0s anna hangs up
4.0s carol hangs up
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
1.000s unplug master
    master keeper: active -> stopped
    master server: serves no more
    standby keeper: passive -> probing
    standby keeper: probing -> claiming
    standby keeper: claiming -> active
    standby server: serves: 2 calls and 4 logins
1.500s expect active standby
1.500s expect dora rings
2.000s dora picks up
    dora: picks up (call 2)
    carol: talks to dora (call 2)
    dora: is acknowledged (call 2)
2.500s plug master
    master keeper: stopped -> passive
    standby server: protected
3.500s expect active standby
3.500s expect protected
4.000s anna hangs up
    anna: hangs up (call 1)
4.000s carol hangs up
    carol: hangs up (call 2)
peace
    every promise was kept
