# The server of either machine is killed in turn while a call is up: CSeq numbers never go back.
users anna ben

0.0s anna calls ben
0.5s ben picks up
1.0s kill server master
2.0s anna holds
3.0s kill server standby
4.0s ben holds
5.0s expect active master
6.0s anna hangs up
---
0.000s anna calls ben
    anna: calls ben (call 1)
    anna: hears 100 (call 1)
    ben: rings (call 1)
    anna: hears it ring (call 1)
0.500s ben picks up
    ben: picks up (call 1)
    anna: talks to ben (call 1)
    ben: is acknowledged (call 1)
1.000s kill server master
    master keeper: active -> passive
    standby keeper: passive -> claiming
    standby keeper: claiming -> active
    standby server: serves: 1 calls and 2 logins
    standby server: protected
2.000s anna holds
    anna: holds (call 1)
    ben: is held (call 1)
    anna: held: 200 (call 1)
3.000s kill server standby
    standby keeper: active -> passive
    master keeper: passive -> claiming
    master keeper: claiming -> active
    master server: serves: 1 calls and 2 logins
    master server: protected
4.000s ben holds
    ben: holds (call 1)
    anna: is held (call 1)
    ben: held: 200 (call 1)
5.000s expect active master
6.000s anna hangs up
    anna: hangs up (call 1)
peace
    every promise was kept
