# The caller gives up in the moment in which the other side answers; then the server dies.
users anna ben

0.0s anna calls ben
0.5s after CANCEL CANCEL from master: kill server master
1.0s anna hangs up
1.0s ben picks up
3.0s expect anna idle
3.0s expect ben idle
---
0.000s anna calls ben
    anna: calls ben (call 1)
    anna: hears 100 (call 1)
    ben: rings (call 1)
    anna: hears it ring (call 1)
0.500s after CANCEL CANCEL from master: kill server master
1.000s anna hangs up
    anna: gives up (call 1)
1.000s ben picks up
    ben: picks up (call 1)
    master server: call record: Cancelled
    at this moment: kill server master
    ben: stops ringing (call 1)
    master keeper: active -> passive
    standby keeper: passive -> claiming
    standby keeper: claiming -> active
    standby server: serves: 0 calls and 2 logins
    ben: is hung up (call 1)
    anna: is refused: 487 (call 1)
    standby server: protected
3.000s expect anna idle
3.000s expect ben idle
peace
    every promise was kept
