# New calls and logins are blocked; the active server dies, then both do. What rings and what is up goes
# on, who is logged in stays so, emergency calls pass, and the block is there until somebody ends it.
users anna ben carol dora

0.0s emergency rings carol at standby
0.2s anna calls ben
0.5s dora calls carol
0.8s carol picks up
1.0s block new calls at standby
1.0s block new logins at standby
1.3s kill server master
2.0s expect active standby
2.0s ben picks up
2.2s expect anna talks
2.2s expect dora talks
2.5s ben calls dora
2.8s expect dora talks
3.0s anna logs in
3.2s anna hangs up
3.4s dora hangs up
3.6s anna calls 112
3.9s carol picks up
4.0s expect anna talks
4.5s anna hangs up
5.0s kill server standby
5.0s kill server master
9.1s ben calls dora
9.5s ben calls 110
9.7s carol picks up
9.9s expect ben talks
10.0s ben hangs up
10.2s unblock new calls at master
10.4s unblock new logins at standby
10.6s ben calls dora
10.8s dora picks up
11.0s expect ben talks
11.2s dora hangs up
---
0.000s emergency rings carol at standby
0.200s anna calls ben
    anna: calls ben (call 1)
    anna: hears 100 (call 1)
    ben: rings (call 1)
    anna: hears it ring (call 1)
0.500s dora calls carol
    dora: calls carol (call 2)
    dora: hears 100 (call 2)
    carol: rings (call 2)
    dora: hears it ring (call 2)
0.800s carol picks up
    carol: picks up (call 2)
    dora: talks to carol (call 2)
    carol: is acknowledged (call 2)
1.000s block new calls at standby
1.000s block new logins at standby
1.300s kill server master
    master keeper: active -> passive
    standby keeper: passive -> claiming
    standby keeper: claiming -> active
    standby server: serves: 2 calls and 4 logins
    standby server: protected
2.000s expect active standby
2.000s ben picks up
    ben: picks up (call 1)
    anna: talks to ben (call 1)
    ben: is acknowledged (call 1)
2.200s expect anna talks
2.200s expect dora talks
2.500s ben calls dora
    ben: calls dora (call 3)
    standby server: call record: Refused
    ben: is refused: 503 (call 3)
2.800s expect dora talks
3.000s anna logs in
    anna: is logged in for 600 s
3.200s anna hangs up
    anna: hangs up (call 1)
    standby server: call record: Answered
    ben: is hung up (call 1)
    anna: has hung up: 200 (call 1)
3.400s dora hangs up
    dora: hangs up (call 2)
    standby server: call record: Answered
    carol: is hung up (call 2)
    dora: has hung up: 200 (call 2)
3.600s anna calls 112
    anna: calls 112 (call 4)
    anna: hears 100 (call 4)
    carol: rings (call 4)
    anna: hears it ring (call 4)
3.900s carol picks up
    carol: picks up (call 4)
    anna: talks to carol (call 4)
    carol: is acknowledged (call 4)
4.000s expect anna talks
4.500s anna hangs up
    anna: hangs up (call 4)
    standby server: call record: Answered
    carol: is hung up (call 4)
    anna: has hung up: 200 (call 4)
5.000s kill server standby
5.000s kill server master
    standby keeper: active -> passive
    standby keeper: passive -> claiming
    standby keeper: claiming -> active
    standby server: serves: 0 calls and 4 logins
    standby server: protected
9.100s ben calls dora
    ben: calls dora (call 5)
    standby server: call record: Refused
    ben: is refused: 503 (call 5)
9.500s ben calls 110
    ben: calls 110 (call 6)
    ben: hears 100 (call 6)
    carol: rings (call 6)
    ben: hears it ring (call 6)
9.700s carol picks up
    carol: picks up (call 6)
    ben: talks to carol (call 6)
    carol: is acknowledged (call 6)
9.900s expect ben talks
10.000s ben hangs up
    ben: hangs up (call 6)
    standby server: call record: Answered
    carol: is hung up (call 6)
    ben: has hung up: 200 (call 6)
10.200s unblock new calls at master
10.400s unblock new logins at standby
10.600s ben calls dora
    ben: calls dora (call 7)
    ben: hears 100 (call 7)
    dora: rings (call 7)
    ben: hears it ring (call 7)
10.800s dora picks up
    dora: picks up (call 7)
    ben: talks to dora (call 7)
    dora: is acknowledged (call 7)
11.000s expect ben talks
11.200s dora hangs up
    dora: hangs up (call 7)
peace
    every promise was kept
