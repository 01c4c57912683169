# With a witness two of three votes are needed to serve: a cut between the two changes nothing; who is cut off
# from both others stops before the other one begins; and a witness that has forgotten what it promised
# promises nothing for a while. (It has just started here, so the first cut comes late.)
users anna ben carol dora
with witness

0.0s anna calls ben
0.1s ben picks up
4.0s cut but-witness master
6.0s expect active master
6.5s mend but-witness master
8.0s expect protected
9.0s cut all master
10.0s expect active standby
10.5s carol calls dora
11.0s dora picks up
12.0s witness ends
14.0s expect nobody serves
15.0s witness starts
17.0s expect nobody serves
20.0s expect active standby
21.0s mend all master
23.0s expect active standby
23.0s expect protected
23.5s anna hangs up
24.0s carol hangs up
---
0.000s anna calls ben
    anna: calls ben (call 1)
    anna: hears 100 (call 1)
    ben: rings (call 1)
    anna: hears it ring (call 1)
0.100s ben picks up
    ben: picks up (call 1)
    anna: talks to ben (call 1)
    ben: is acknowledged (call 1)
4.000s cut but-witness master
    witness: pair: the vote goes to the master, reign 1M
    master server: unprotected
    standby keeper: passive -> probing
6.000s expect active master
6.500s mend but-witness master
    standby keeper: probing -> passive
    master server: protected
8.000s expect protected
9.000s cut all master
    master keeper: active -> passive
    master keeper: passive -> claiming
    master server: the keeper's lease ran out
    master server: serves no more
    standby keeper: passive -> probing
    witness: pair: the vote goes to the standby, reign 2S
    standby keeper: probing -> claiming
    standby keeper: claiming -> active
    standby server: serves: 1 calls and 4 logins
    master keeper: claiming -> passive
    master keeper: passive -> probing
10.000s expect active standby
10.500s carol calls dora
    carol: calls dora (call 2)
    carol: hears 100 (call 2)
    dora: rings (call 2)
    carol: hears it ring (call 2)
11.000s dora picks up
    dora: picks up (call 2)
    carol: talks to dora (call 2)
    dora: is acknowledged (call 2)
12.000s witness ends
    the witness ends
    standby keeper: active -> passive
    standby keeper: passive -> probing
    standby server: the keeper's lease ran out
    standby server: serves no more
14.000s expect nobody serves
15.000s witness starts
    the witness starts
17.000s expect nobody serves
    witness: pair: the vote goes to the standby, reign 3S
    standby keeper: probing -> claiming
    standby keeper: claiming -> active
    standby server: serves: 2 calls and 4 logins
20.000s expect active standby
21.000s mend all master
    master keeper: probing -> passive
    standby server: protected
23.000s expect active standby
23.000s expect protected
23.500s anna hangs up
    anna: hangs up (call 1)
    standby server: call record: Answered
    ben: is hung up (call 1)
    anna: has hung up: 200 (call 1)
24.000s carol hangs up
    carol: hangs up (call 2)
peace
    every promise was kept
