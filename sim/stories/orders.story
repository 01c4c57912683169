# An operator orders a switchover for when no calls are up; the order outlives the keeper. A locked machine does
# not take over until the lock ends.
users anna ben

0.0s anna calls ben
0.2s ben picks up
1.0s switch standby when idle
1.5s cancel switch standby
2.0s anna hangs up
3.0s expect active master
3.5s anna calls ben
4.0s ben picks up
4.5s power off standby
5.0s switch master when idle
5.5s kill keeper master
8.0s power on standby
12.0s expect active master
12.0s expect protected
12.5s anna hangs up
13.5s expect active standby
14.0s lock master for 5s
14.2s kill keeper master
16.0s switch standby
16.5s expect active standby
17.0s power off standby
18.5s expect nobody serves
20.0s expect active master
---
0.000s anna calls ben
    anna: calls ben (call 1)
    anna: hears 100 (call 1)
    ben: rings (call 1)
    anna: hears it ring (call 1)
0.200s ben picks up
    ben: picks up (call 1)
    anna: talks to ben (call 1)
    ben: is acknowledged (call 1)
1.000s switch standby when idle
1.500s cancel switch standby
2.000s anna hangs up
    anna: hangs up (call 1)
    master server: call record: Answered
    ben: is hung up (call 1)
    anna: has hung up: 200 (call 1)
3.000s expect active master
3.500s anna calls ben
    anna: calls ben (call 2)
    anna: hears 100 (call 2)
    ben: rings (call 2)
    anna: hears it ring (call 2)
4.000s ben picks up
    ben: picks up (call 2)
    anna: talks to ben (call 2)
    ben: is acknowledged (call 2)
4.500s power off standby
    master server: unprotected
5.000s switch master when idle
5.500s kill keeper master
    master keeper: cold -> probing
    master keeper: probing -> claiming
    master keeper: claiming -> active
    master server: serves: 1 calls and 2 logins
8.000s power on standby
    standby keeper: cold -> passive
    master server: protected
12.000s expect active master
12.000s expect protected
12.500s anna hangs up
    anna: hangs up (call 2)
    master server: call record: Answered
    ben: is hung up (call 2)
    anna: has hung up: 200 (call 2)
    master keeper: active -> yielding
    master server: serves no more
    standby keeper: passive -> claiming
    standby keeper: claiming -> active
    master keeper: yielding -> passive
    standby server: serves: 0 calls and 2 logins
    standby server: protected
13.500s expect active standby
14.000s lock master for 5s
14.200s kill keeper master
    standby server: unprotected
    master keeper: cold -> passive
    standby server: protected
16.000s switch standby
    the operator hears of the standby: the machine that would take over can not lead: its server, network, disk or maintenance lock forbids it
16.500s expect active standby
17.000s power off standby
18.500s expect nobody serves
    master keeper: passive -> probing
    master keeper: probing -> claiming
    master keeper: claiming -> active
    master server: serves: 0 calls and 2 logins
20.000s expect active master
peace
    every promise was kept
