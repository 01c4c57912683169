# The active server dies when the end of the call is safe and its answer has not left: the BYE that is
# repeated is answered 200 by the other one, and there is one record.
users anna ben

0.0s anna calls ben
0.5s ben picks up
0.9s before 200 BYE from master: kill server master
1.0s anna hangs up
2.5s expect anna idle
2.5s expect ben idle
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
0.900s before 200 BYE from master: kill server master
1.000s anna hangs up
    anna: hangs up (call 1)
    master server: call record: Answered
    ben: is hung up (call 1)
    at this moment: kill server master
    master keeper: active -> passive
    standby keeper: passive -> claiming
    standby keeper: claiming -> active
    standby server: serves: 0 calls and 2 logins
    anna: has hung up: 200 (call 1)
    standby server: protected
2.500s expect anna idle
2.500s expect ben idle
peace
    every promise was kept
