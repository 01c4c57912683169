# Three phones of one user ring; the server is killed; one is answered and the others stop.
users anna ben:3

0.0s anna calls ben
0.5s kill server master
1.0s expect ben-2 rings
1.5s ben-2 picks up
2.5s expect anna talks
2.5s expect ben idle
2.5s expect ben-3 idle
3.0s ben-2 hangs up
---
0.000s anna calls ben
    anna: calls ben (call 1)
    anna: hears 100 (call 1)
    ben-3: rings (call 1)
    ben-2: rings (call 1)
    ben: rings (call 1)
    anna: hears it ring (call 1)
    anna: hears it ring (call 1)
    anna: hears it ring (call 1)
0.500s kill server master
    master keeper: active -> passive
    standby keeper: passive -> claiming
    standby keeper: claiming -> active
    standby server: serves: 1 calls and 4 logins
    standby server: protected
1.000s expect ben-2 rings
1.500s ben-2 picks up
    ben-2: picks up (call 1)
    ben-3: stops ringing (call 1)
    ben: stops ringing (call 1)
    anna: talks to ben-2 (call 1)
    ben-2: is acknowledged (call 1)
2.500s expect anna talks
2.500s expect ben idle
2.500s expect ben-3 idle
3.000s ben-2 hangs up
    ben-2: hangs up (call 1)
peace
    every promise was kept
