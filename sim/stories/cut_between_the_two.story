# The two machines no longer hear each other, but phones reach both: nobody else takes over.
users anna ben

0.0s anna calls ben
0.3s ben picks up
1.0s cut between standby
2.5s expect active master
2.5s expect unprotected
3.0s mend between standby
4.5s expect protected
5.0s anna hangs up
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
1.000s cut between standby
    standby keeper: passive -> probing
    master server: unprotected
2.500s expect active master
2.500s expect unprotected
3.000s mend between standby
    standby keeper: probing -> passive
    master server: protected
4.500s expect protected
5.000s anna hangs up
    anna: hangs up (call 1)
peace
    every promise was kept
