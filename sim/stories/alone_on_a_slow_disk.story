# Alone, on a disk that takes long, the answer to a call leaves when the disk has it: the power fails in that very
# moment, and the call is there when it is back.
users anna ben

0.0s power off standby
1.5s disk slow master
2.0s anna calls ben
2.4s after 200 INVITE from master: power off master
2.5s ben picks up
4.0s power on master
4.0s power on standby
8.0s expect protected
8.0s expect anna talks
8.0s expect ben talks
8.5s ben hangs up
---
0.000s power off standby
    master server: unprotected
1.500s disk slow master
2.000s anna calls ben
    anna: calls ben (call 1)
    anna: hears 100 (call 1)
    ben: rings (call 1)
    anna: hears it ring (call 1)
2.400s after 200 INVITE from master: power off master
2.500s ben picks up
    ben: picks up (call 1)
    at this moment: power off master
    anna: talks to ben (call 1)
4.000s power on master
4.000s power on standby
    master keeper: cold -> claiming
    master keeper: claiming -> active
    standby keeper: cold -> passive
    master server: serves: 1 calls and 2 logins
    master server: protected
    ben: is acknowledged (call 1)
8.000s expect protected
8.000s expect anna talks
8.000s expect ben talks
8.500s ben hangs up
    ben: hangs up (call 1)
peace
    every promise was kept
