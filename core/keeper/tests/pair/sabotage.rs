//! The rules broken on purpose: that breaking them is noticed shows that the checks look.

use tandem_keeper::pair::Sabotage;
use tandem_types::Duration;

use crate::situations::replay_the_past;
use crate::world::{MASTER, STANDBY, World, ms};

#[test]
#[should_panic(expected = "reigns twice")]
fn an_epoch_that_is_not_saved_is_used_twice() {
    let mut world = World::new(1);
    world.sabotage = Sabotage { skip_saving_epochs: true, ..Sabotage::default() };
    for _ in 0..2 {
        // Alone, and its server's disk is lost: a twin or a journal would remember the epoch.
        world.boot(MASTER);
        world.run(ms(2_000));
        world.kill_machine(MASTER);
        world.lose_journal(MASTER);
    }
}

#[test]
fn late_heartbeats_that_are_believed_lead_to_two_servers() {
    let mut world = World::new(1);
    world.sabotage = Sabotage { accept_late_heartbeats: true, ..Sabotage::default() };
    world.boot(MASTER);
    world.boot(STANDBY);
    world.run(ms(2_000));
    replay_the_past(&mut world);
    assert!(world.overlap > Duration::ZERO, "{}", world.story());
}
