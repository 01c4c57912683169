# The active machine is cut off from everybody; the other one reaches the gateway. It stops, the other serves,
# and healing switches nothing.
users anna ben carol dora
with gateway

0.0s anna calls ben
0.1s ben picks up
1.0s cut all master
2.5s expect active standby
3.0s carol calls dora
3.5s dora picks up
6.0s mend all master
7.5s expect active standby
7.5s expect protected
7.5s expect anna talks
8.0s anna hangs up
8.5s carol hangs up
---
0.000s anna calls ben
    anna: calls ben (call 1)
    anna: hears 100 (call 1)
    ben: rings (call 1)
    anna: hears it ring (call 1)
0.100s ben picks up
    ben: picks up (call 1)
    anna: talks to ben (call 1)
    ben: is acknowledged (call 1)
1.000s cut all master
    master server: unprotected
    standby keeper: passive -> probing
    standby keeper: probing -> claiming
    standby keeper: claiming -> active
    standby server: serves: 1 calls and 4 logins
    master keeper: active -> stopped
    master server: serves no more
2.500s expect active standby
3.000s carol calls dora
    carol: calls dora (call 2)
    carol: hears 100 (call 2)
    dora: rings (call 2)
    carol: hears it ring (call 2)
3.500s dora picks up
    dora: picks up (call 2)
    carol: talks to dora (call 2)
    dora: is acknowledged (call 2)
6.000s mend all master
    master keeper: stopped -> passive
    standby server: protected
7.500s expect active standby
7.500s expect protected
7.500s expect anna talks
8.000s anna hangs up
    anna: hangs up (call 1)
    standby server: call record: Answered
    ben: is hung up (call 1)
    anna: has hung up: 200 (call 1)
8.500s carol hangs up
    carol: hangs up (call 2)
peace
    every promise was kept
