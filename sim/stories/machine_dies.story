# The power of the active machine fails; it comes back and becomes the passive one.
users anna ben

0.0s anna calls ben
0.3s ben picks up
1.0s power off master
1.5s expect active standby
1.5s expect unprotected
2.0s power on master
3.5s expect active standby
3.5s expect protected
4.0s anna hangs up
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
1.000s power off master
    standby keeper: passive -> probing
    standby keeper: probing -> claiming
    standby keeper: claiming -> active
    standby server: serves: 1 calls and 2 logins
1.500s expect active standby
1.500s expect unprotected
2.000s power on master
    master keeper: cold -> passive
    standby server: protected
3.500s expect active standby
3.500s expect protected
4.000s anna hangs up
    anna: hangs up (call 1)
peace
    every promise was kept
