# The passive machine is cut off from everything and believes that it is alone; when the cut is mended,
# who carries the calls stays.
users anna ben carol dora

0.0s anna calls ben
0.3s ben picks up
1.0s cut all standby
2.0s carol calls dora
2.3s dora picks up
4.0s mend all standby
5.5s expect active master
5.5s expect protected
6.0s anna hangs up
6.0s carol hangs up
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
1.000s cut all standby
    master server: unprotected
    standby keeper: passive -> probing
    standby keeper: probing -> claiming
    standby keeper: claiming -> active
    standby server: serves: 1 calls and 4 logins
2.000s carol calls dora
    carol: calls dora (call 2)
    carol: hears 100 (call 2)
    dora: rings (call 2)
    carol: hears it ring (call 2)
2.300s dora picks up
    dora: picks up (call 2)
    carol: talks to dora (call 2)
    dora: is acknowledged (call 2)
4.000s mend all standby
    standby keeper: active -> passive
    standby server: serves no more
    master keeper: active -> active
    master server: serves: 2 calls and 4 logins
    master server: protected
5.500s expect active master
5.500s expect protected
6.000s anna hangs up
    anna: hangs up (call 1)
6.000s carol hangs up
    carol: hangs up (call 2)
peace
    every promise was kept
