//! How much may be under way: Cubic (RFC 9438), but never less than a floor.
//!
//! Where packets get lost for other reasons than a full queue, Cubic comes down to two packets. Then one lost
//! acknowledgement stops everything, also what shows that something is lost, until a time-out that doubles.
//!
//! The price: RFC 9002 §7.6.2 wants two packets after persistent congestion, and here it is the floor. Where nothing is
//! acknowledged no more than that leaves, but for two probes at each time-out (§6.2.4); where little is, it is the floor each
//! round trip. On a line of 10 Mbit/s that is a queue of 52 ms. The limits of the peer (RFC 9000 §4) hold as ever.

use std::any::Any;
use std::sync::Arc;
use std::time::Instant;

use quinn::congestion::{Controller, ControllerFactory, CubicConfig};
use quinn_proto::RttEstimator;

/// So many bytes may always be under way: 45 packets, or half a millisecond of a gigabit LAN.
pub(crate) const FLOOR_BYTES: u64 = 64 * 1024;

/// Makes a [`Floored`] for each connection.
pub(crate) struct Floor(pub(crate) Arc<CubicConfig>);

/// A controller with a floor.
struct Floored(Box<dyn Controller>);

impl ControllerFactory for Floor {
    fn build(self: Arc<Self>, now: Instant, current_mtu: u16) -> Box<dyn Controller> {
        Box::new(Floored(Arc::clone(&self.0).build(now, current_mtu)))
    }
}

impl Controller for Floored {
    fn on_sent(&mut self, now: Instant, bytes: u64, last_packet_number: u64) {
        self.0.on_sent(now, bytes, last_packet_number);
    }

    fn on_ack(
        &mut self,
        now: Instant,
        sent: Instant,
        bytes: u64,
        app_limited: bool,
        rtt: &RttEstimator,
    ) {
        self.0.on_ack(now, sent, bytes, app_limited, rtt);
    }

    fn on_end_acks(
        &mut self,
        now: Instant,
        in_flight: u64,
        app_limited: bool,
        largest_packet_num_acked: Option<u64>,
    ) {
        self.0.on_end_acks(now, in_flight, app_limited, largest_packet_num_acked);
    }

    fn on_congestion_event(
        &mut self,
        now: Instant,
        sent: Instant,
        is_persistent_congestion: bool,
        lost_bytes: u64,
    ) {
        self.0.on_congestion_event(now, sent, is_persistent_congestion, lost_bytes);
    }

    fn on_mtu_update(&mut self, new_mtu: u16) {
        self.0.on_mtu_update(new_mtu);
    }

    fn window(&self) -> u64 {
        self.0.window().max(FLOOR_BYTES)
    }

    fn clone_box(&self) -> Box<dyn Controller> {
        Box::new(Self(self.0.clone_box()))
    }

    fn initial_window(&self) -> u64 {
        self.0.initial_window()
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const MTU: u16 = 1_452;

    #[test]
    fn however_much_is_lost_more_than_a_few_packets_may_be_under_way() {
        let mut cubic = CubicConfig::default();
        cubic.initial_window(4 * FLOOR_BYTES);
        let cubic = Arc::new(cubic);
        let begun = Instant::now();
        let mut bare = Arc::clone(&cubic).build(begun, MTU);
        let mut floored = Arc::new(Floor(cubic)).build(begun, MTU);
        assert_eq!((bare.window(), floored.window()), (4 * FLOOR_BYTES, 4 * FLOOR_BYTES));
        let mut above = 0;
        for number in 1..100 {
            let now = begun + Duration::from_millis(number);
            for controller in [&mut bare, &mut floored] {
                controller.on_congestion_event(now, now, false, u64::from(MTU));
            }
            assert_eq!(floored.window(), bare.window().max(FLOOR_BYTES));
            above += usize::from(floored.window() > FLOOR_BYTES);
        }
        assert!(above > 0, "it gives way first");
        assert_eq!((bare.window(), floored.window()), (2 * u64::from(MTU), FLOOR_BYTES));
        assert_eq!(floored.clone_box().window(), FLOOR_BYTES);
    }
}
