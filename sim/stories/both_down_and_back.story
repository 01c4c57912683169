# The power of both fails, one after the other; both come back. Saved users, closed records, logins
# and calls are there.
users anna ben

0.0s anna calls ben
0.3s ben picks up
0.5s ben hangs up
1.0s add user emil at master
1.2s anna calls ben
1.5s ben picks up
2.0s power off standby
2.6s power off master
3.0s power on master
3.0s power on standby
6.0s expect protected
6.0s expect anna talks
6.5s anna hangs up
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
0.500s ben hangs up
    ben: hangs up (call 1)
    master server: call record: Answered
    anna: is hung up (call 1)
    ben: has hung up: 200 (call 1)
1.000s add user emil at master
1.200s anna calls ben
    anna: calls ben (call 2)
    anna: hears 100 (call 2)
    ben: rings (call 2)
    anna: hears it ring (call 2)
1.500s ben picks up
    ben: picks up (call 2)
    anna: talks to ben (call 2)
    ben: is acknowledged (call 2)
2.000s power off standby
    master server: unprotected
2.600s power off master
3.000s power on master
3.000s power on standby
    master keeper: cold -> claiming
    master keeper: claiming -> active
    standby keeper: cold -> passive
    master server: serves: 1 calls and 2 logins
    master server: protected
6.000s expect protected
6.000s expect anna talks
6.500s anna hangs up
    anna: hangs up (call 2)
peace
    every promise was kept
