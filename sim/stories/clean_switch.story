# A planned switch to and fro in the very moments in which something is said: nobody repeats anything, and
# nobody hears anything twice.
users anna ben carol dora emil

0.0s anna calls ben
0.2s ben picks up
4.9s carol calls dora
5.0s after 200 BYE from master: switch standby
5.0s anna hangs up
5.2s dora picks up
5.5s expect active standby
5.6s after 180 INVITE from standby: switch standby
5.6s ben calls emil
5.8s expect active master
5.9s emil picks up
6.1s emil holds
6.101s switch master
6.102s carol hangs up
6.103s emil logs in
6.5s expect active standby
6.5s expect ben talks
8.0s expect nothing repeated
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
4.900s carol calls dora
    carol: calls dora (call 2)
    carol: hears 100 (call 2)
    dora: rings (call 2)
    carol: hears it ring (call 2)
5.000s after 200 BYE from master: switch standby
5.000s anna hangs up
    anna: hangs up (call 1)
    master server: call record: Answered
    ben: is hung up (call 1)
    at this moment: Switch { force: false } at standby
    anna: has hung up: 200 (call 1)
    master keeper: active -> yielding
    master server: serves no more
    standby keeper: passive -> claiming
    standby keeper: claiming -> active
    master keeper: yielding -> passive
    standby server: serves: 1 calls and 5 logins
    standby server: protected
5.200s dora picks up
    dora: picks up (call 2)
    carol: talks to dora (call 2)
    dora: is acknowledged (call 2)
5.500s expect active standby
5.600s after 180 INVITE from standby: switch standby
5.600s ben calls emil
    ben: calls emil (call 3)
    ben: hears 100 (call 3)
    emil: rings (call 3)
    at this moment: Switch { force: false } at standby
    standby keeper: active -> yielding
    ben: hears it ring (call 3)
    standby server: serves no more
    master keeper: passive -> claiming
    master keeper: claiming -> active
    standby keeper: yielding -> passive
    master server: serves: 2 calls and 5 logins
    master server: protected
5.800s expect active master
5.900s emil picks up
    emil: picks up (call 3)
    ben: talks to emil (call 3)
    emil: is acknowledged (call 3)
6.100s emil holds
    emil: holds (call 3)
    ben: is held (call 3)
    emil: held: 200 (call 3)
6.101s switch master
    master keeper: active -> yielding
    master server: serves no more
    standby keeper: passive -> claiming
6.102s carol hangs up
    carol: hangs up (call 2)
6.103s emil logs in
    standby keeper: claiming -> active
    master keeper: yielding -> passive
    standby server: serves: 2 calls and 5 logins
    standby server: call record: Answered
    dora: is hung up (call 2)
    carol: has hung up: 200 (call 2)
    standby server: protected
    emil: is logged in for 600 s
6.500s expect active standby
6.500s expect ben talks
8.000s expect nothing repeated
peace
    every promise was kept
