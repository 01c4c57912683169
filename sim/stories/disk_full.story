# The disk of the active machine is full: calls go on from memory and on the twin; then there is room.
users anna ben

0.0s disk full master
0.5s anna calls ben
1.0s ben picks up
1.5s anna hangs up
2.5s expect active master
3.0s disk free master
4.0s ben calls anna
4.5s anna picks up
5.0s kill server master
6.0s expect active standby
6.0s anna hangs up
---
0.000s disk full master
0.500s anna calls ben
    anna: calls ben (call 1)
    master server: THE STORE CANNOT WRITE: served from memory, safe on the twin only
    anna: hears 100 (call 1)
    ben: rings (call 1)
    anna: hears it ring (call 1)
1.000s ben picks up
    ben: picks up (call 1)
    anna: talks to ben (call 1)
    ben: is acknowledged (call 1)
1.500s anna hangs up
    anna: hangs up (call 1)
    master server: call record: Answered
    ben: is hung up (call 1)
    anna: has hung up: 200 (call 1)
2.500s expect active master
3.000s disk free master
    master server: the store writes again
4.000s ben calls anna
    ben: calls anna (call 2)
    ben: hears 100 (call 2)
    anna: rings (call 2)
    ben: hears it ring (call 2)
4.500s anna picks up
    anna: picks up (call 2)
    ben: talks to anna (call 2)
    anna: is acknowledged (call 2)
5.000s kill server master
    master keeper: active -> passive
    standby keeper: passive -> claiming
    standby keeper: claiming -> active
    standby server: serves: 1 calls and 2 logins
    standby server: protected
6.000s expect active standby
6.000s anna hangs up
    anna: hangs up (call 2)
peace
    every promise was kept
