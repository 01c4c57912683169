# The passive server dies: the active one goes on unprotected, and is protected again when it is back.
users anna ben

0.0s anna calls ben
0.3s ben picks up
1.0s power off standby
1.5s expect active master
1.5s expect unprotected
1.6s anna hangs up
2.0s ben calls anna
2.5s anna picks up
3.0s power on standby
4.5s expect protected
5.0s kill server master
5.5s expect active standby
6.0s anna hangs up
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
1.000s power off standby
    master server: unprotected
1.500s expect active master
1.500s expect unprotected
1.600s anna hangs up
    anna: hangs up (call 1)
    master server: call record: Answered
    ben: is hung up (call 1)
    anna: has hung up: 200 (call 1)
2.000s ben calls anna
    ben: calls anna (call 2)
    ben: hears 100 (call 2)
    anna: rings (call 2)
    ben: hears it ring (call 2)
2.500s anna picks up
    anna: picks up (call 2)
    ben: talks to anna (call 2)
    anna: is acknowledged (call 2)
3.000s power on standby
    standby keeper: cold -> passive
    master server: protected
4.500s expect protected
5.000s kill server master
    master keeper: active -> passive
    standby keeper: passive -> claiming
    standby keeper: claiming -> active
    standby server: serves: 1 calls and 2 logins
    standby server: protected
5.500s expect active standby
6.000s anna hangs up
    anna: hangs up (call 2)
peace
    every promise was kept
