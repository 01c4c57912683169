//! PostgreSQL's logical replication, measured as Tandem's is: two servers of its own in network namespaces,
//! a publication and a subscription whose changes are on disk before they are seen
//! (`synchronous_commit = on`).

mod cluster;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, ensure};
use tandem::demo::report::Report;
use tandem::demo::wait;
use tokio::task::JoinSet;
use tokio::time::{Instant as TokioInstant, sleep, sleep_until};
use tokio_postgres::Client;

use super::lag::LOSS;
use super::observe::Lags;
use super::{Plan, note, rate};
use crate::calm::{lose, lose_nothing};
use crate::table::Table;
use cluster::{Clusters, block_on};

/// Writers at the same time: as many commands of administrators there are at Tandem's.
const WRITERS: i64 = 16;

/// Changes a second where there are few.
const FEW: usize = 10;

/// Pause between two looks.
const PAUSE: Duration = Duration::from_micros(250);

/// Everything has arrived by then.
const LIMIT: Duration = Duration::from_secs(300);

pub(super) fn run(plan: &Plan, report: &mut Report, table: &mut Table) -> Result<()> {
    let clusters = Clusters::start()?;
    clusters.publisher.run("CREATE TABLE changes (id bigint PRIMARY KEY, name text NOT NULL)")?;
    clusters.subscriber.run("CREATE TABLE changes (id bigint PRIMARY KEY, name text NOT NULL)")?;
    clusters.publisher.run("CREATE PUBLICATION pair FOR TABLE changes")?;
    clusters.subscribe("pair")?;
    let time = Duration::from_secs(plan.seconds);
    let next = Arc::new(AtomicI64::new(1));
    // The first changes wait for the initial copy.
    lag(&clusters, FEW, Duration::from_secs(1), &next)?;
    let few = lag(&clusters, FEW, time, &next)?;
    say(report, table, &format!("configuration, {FEW} changes a second"), &few);
    let many = lag(&clusters, plan.rate, time, &next)?;
    say(report, table, &format!("configuration, {} changes a second", plan.rate), &many);
    for (space, other) in clusters.ways() {
        lose(&space, &["-s", &other], LOSS)?;
    }
    let lossy = lag(&clusters, plan.rate, time, &next)?;
    say(report, table, &format!("configuration, {} a second, 20 % loss", plan.rate), &lossy);
    for (space, _) in clusters.ways() {
        lose_nothing(&space)?;
    }
    catch_up(&clusters, plan.ops, next.load(Ordering::Relaxed), report)
}

fn say(report: &mut Report, table: &mut Table, what: &str, lags: &Lags) {
    note(table, what, "postgres", lags);
    report.check(&format!("PostgreSQL: {what}"), lags.count() > 0, &lags.words());
}

/// From "committed", as its writer hears it, to "seen on the other".
fn lag(
    clusters: &Clusters,
    per_second: usize,
    time: Duration,
    next: &Arc<AtomicI64>,
) -> Result<Lags> {
    let observer = Observer::start(clusters, next.load(Ordering::Relaxed) - 1)?;
    let begun = Instant::now();
    let committed = block_on(write_all(clusters, per_second, time, Arc::clone(next)))?;
    let last = next.load(Ordering::Relaxed) - 1;
    let seen = observer.finish(last)?;
    let mut millis = Vec::new();
    for (id, at) in committed {
        let there = seen.get(&id).with_context(|| format!("{id} has not arrived"))?;
        millis.push(there.saturating_duration_since(at).as_secs_f64() * 1_000.0);
    }
    Lags::of(millis, begun.elapsed().as_secs_f64())
}

/// Commits, and when each was told to be done.
async fn write_all(
    clusters: &Clusters,
    per_second: usize,
    time: Duration,
    next: Arc<AtomicI64>,
) -> Result<Vec<(i64, Instant)>> {
    let writers = WRITERS.min(i64::try_from(per_second)?);
    let pause = Duration::from_secs(1) * u32::try_from(writers)? / u32::try_from(per_second)?;
    let begun = TokioInstant::now();
    let mut running = JoinSet::new();
    for index in 0..writers {
        let client = clusters.publisher.connect().await?;
        let first = begun + pause * u32::try_from(index)? / u32::try_from(writers)?;
        running.spawn(write(client, Arc::clone(&next), first, pause, begun + time));
    }
    let mut committed = Vec::new();
    while let Some(done) = running.join_next().await {
        committed.extend(done??);
    }
    Ok(committed)
}

async fn write(
    client: Client,
    next: Arc<AtomicI64>,
    first: TokioInstant,
    pause: Duration,
    end: TokioInstant,
) -> Result<Vec<(i64, Instant)>> {
    let insert = client.prepare("INSERT INTO changes VALUES ($1, $2)").await?;
    let (mut committed, mut due) = (Vec::new(), first);
    while due < end {
        sleep_until(due).await;
        let id = next.fetch_add(1, Ordering::Relaxed);
        client.execute(&insert, &[&id, &format!("name {id}")]).await?;
        committed.push((id, Instant::now()));
        due += pause;
    }
    Ok(committed)
}

/// Looks at the subscriber all the time.
struct Observer {
    end: Arc<AtomicI64>,
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Result<BTreeMap<i64, Instant>>>,
}

impl Observer {
    /// Everything after this number.
    fn start(clusters: &Clusters, after: i64) -> Result<Self> {
        let (end, stop) = (Arc::new(AtomicI64::new(i64::MAX)), Arc::new(AtomicBool::new(false)));
        let (ending, stopping) = (Arc::clone(&end), Arc::clone(&stop));
        let subscriber = clusters.subscriber.clone();
        let thread = std::thread::spawn(move || {
            block_on(async {
                let client = subscriber.connect().await?;
                let look = client.prepare("SELECT id FROM changes WHERE id > $1").await?;
                let (mut seen, mut whole) = (BTreeMap::new(), after);
                while whole < ending.load(Ordering::Relaxed) && !stopping.load(Ordering::Relaxed) {
                    let rows = client.query(&look, &[&whole]).await?;
                    let now = Instant::now();
                    for row in rows {
                        seen.entry(row.get::<_, i64>(0)).or_insert(now);
                    }
                    while seen.contains_key(&(whole + 1)) {
                        whole += 1;
                    }
                    sleep(PAUSE).await;
                }
                Ok(seen)
            })
        });
        Ok(Self { end, stop, thread })
    }

    /// Everything up to this number, as soon as it is there.
    fn finish(self, last: i64) -> Result<BTreeMap<i64, Instant>> {
        self.end.store(last, Ordering::Relaxed);
        let arrived = wait::until("everything on the subscriber", LIMIT, || {
            Ok(self.thread.is_finished().then_some(()))
        });
        self.stop.store(true, Ordering::Relaxed);
        let seen = self.thread.join().map_err(|_| anyhow!("the observer has panicked"))??;
        arrived.map(|()| seen)
    }
}

/// A subscriber that was away; each change is a transaction of its own, as at Tandem's.
fn catch_up(clusters: &Clusters, ops: u64, first: i64, report: &mut Report) -> Result<()> {
    clusters.subscriber.run("ALTER SUBSCRIPTION pair DISABLE")?;
    // It would sync each change by itself: its own default, without, is the better one here.
    clusters.subscriber.run("ALTER SUBSCRIPTION pair SET (synchronous_commit = off)")?;
    let last = first + i64::try_from(ops)? - 1;
    // Made as fast as it goes; how it was made is not measured.
    clusters.publisher.run("ALTER DATABASE postgres SET synchronous_commit = off")?;
    clusters.publisher.run(&format!(
        "DO $$ BEGIN FOR i IN {first}..{last} LOOP
           INSERT INTO changes VALUES (i, 'name ' || i); COMMIT; END LOOP; END $$"
    ))?;
    let subscriber = clusters.subscriber.clone();
    clusters.subscriber.run("ALTER SUBSCRIPTION pair ENABLE")?;
    let begun = Instant::now();
    let (from, until, count) = block_on(async {
        let client = subscriber.connect().await?;
        let look = client.prepare("SELECT coalesce(max(id), 0) FROM changes").await?;
        let (mut from, mut before) = (None, first - 1);
        loop {
            let there: i64 = client.query_one(&look, &[]).await?.get(0);
            let now = Instant::now();
            if there >= first && from.is_none() {
                (from, before) = (Some(now), there);
            }
            if let Some(from) = from.filter(|_| there >= last) {
                return Ok((from, now, there - before));
            }
            ensure!(begun.elapsed() < LIMIT, "{there} of {last} have arrived");
            sleep(PAUSE).await;
        }
    })?;
    let seconds = until.duration_since(from).as_secs_f64();
    let text = format!(
        "{count} in {seconds:.1} s, {:.1} s from being enabled",
        until.duration_since(begun).as_secs_f64()
    );
    let per_second = rate(u64::try_from(count)?, seconds).round();
    report.figure("PostgreSQL: a subscriber that was away", per_second, "a second", &text);
    report.check("PostgreSQL: the subscriber caught up", true, &text);
    Ok(())
}
