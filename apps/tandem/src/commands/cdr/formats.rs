//! The forms in which records are exported. Columns and values are explained in `docs/records.md`.

use clap::ValueEnum;
use serde_json::json;
use tandem_call::{Cdr, Ending, Outcome};
use tandem_node::CallEvents;

use super::records::{events_json, to_json};
use super::zone::Zone;
use crate::commands::table::plain;

/// The form of an export.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
#[value(rename_all = "lowercase")]
pub(crate) enum Format {
    /// Comma separated, all in quotes, dates as 31.12.2026: the file of the reference product
    Reference,
    /// Comma separated, the columns of Asterisk's table
    Asterisk,
    /// One JSON object a line, with everything there is
    Jsonl,
}

/// Columns of the reference, in the order of its file.
const REFERENCE: [&str; 34] = [
    "CallID",
    "OriginationNumber",
    "OriginationName",
    "CalledNumber",
    "CalledName",
    "DestinationNumber",
    "DestinationName",
    "StartDate",
    "StartTime",
    "ScriptConnectDate",
    "ScriptConnectTime",
    "DeliveredDate",
    "DeliveredTime",
    "ConnectDate",
    "ConnectTime",
    "EndDate",
    "EndTime",
    "Currency",
    "Costs",
    "State",
    "PublicAccessPrefix",
    "LCRProvider",
    "ProjectNumber",
    "AOC",
    "OriginationDevice",
    "DestinationDevice",
    "TransferredByNumber",
    "TransferredByName",
    "TransferredCallID1",
    "TransferredCallID2",
    "TransferredToCallID",
    "TransferDate",
    "TransferTime",
    "DisconnectReason",
];

/// Columns of Asterisk's table.
const ASTERISK: [&str; 19] = [
    "clid",
    "src",
    "dst",
    "dcontext",
    "channel",
    "dstchannel",
    "lastapp",
    "lastdata",
    "start",
    "answer",
    "end",
    "duration",
    "billsec",
    "disposition",
    "amaflags",
    "accountcode",
    "uniqueid",
    "linkedid",
    "userfield",
];

impl Format {
    /// The first line; empty where there is none.
    pub(super) fn header(self) -> String {
        match self {
            Self::Reference => row(&REFERENCE.map(str::to_owned)) + "\r\n",
            Self::Asterisk => row(&ASTERISK.map(str::to_owned)) + "\n",
            Self::Jsonl => String::new(),
        }
    }

    /// The line of a record that ended at `end`.
    pub(super) fn line(
        self,
        cdr: &Cdr,
        end: i64,
        events: Option<&CallEvents>,
        zone: &Zone,
    ) -> String {
        match self {
            Self::Reference => row(&reference(cdr, end, zone)) + "\r\n",
            Self::Asterisk => row(&asterisk(cdr, end, zone)) + "\n",
            Self::Jsonl => {
                let mut value = to_json(cdr);
                value["events"] = json!(events.map(|events| events_json(cdr, events)));
                format!("{value}\n")
            }
        }
    }

    /// Whether the events of a call belong to its line.
    pub(super) fn has_events(self) -> bool {
        self == Self::Jsonl
    }
}

fn reference(cdr: &Cdr, end: i64, zone: &Zone) -> [String; 34] {
    let date = |at: Option<i64>| {
        at.map(|at| zone.local(at).strftime("%d.%m.%Y").to_string()).unwrap_or_default()
    };
    let time = |at: Option<i64>| {
        at.map(|at| zone.local(at).strftime("%H:%M:%S").to_string()).unwrap_or_default()
    };
    let (start, end) = (Some(cdr.start), Some(end));
    let empty = String::new;
    [
        text(&cdr.call_id),
        number(cdr.origination_number.reveal()),
        text(cdr.origination_name.reveal()),
        number(cdr.called_number.reveal()),
        text(cdr.called_name.reveal()),
        number(cdr.destination_number.reveal()),
        text(cdr.destination_name.reveal()),
        date(start),
        time(start),
        empty(),
        empty(),
        date(cdr.delivered),
        time(cdr.delivered),
        date(cdr.connect),
        time(cdr.connect),
        date(end),
        time(end),
        empty(),
        empty(),
        state(cdr).to_owned(),
        empty(),
        empty(),
        empty(),
        empty(),
        text(&cdr.origination_device),
        text(&cdr.destination_device),
        empty(),
        empty(),
        empty(),
        empty(),
        empty(),
        empty(),
        empty(),
        disconnect_reason(cdr).to_owned(),
    ]
}

/// The last state that the call was in before it ended.
const fn state(cdr: &Cdr) -> &'static str {
    match (cdr.connect, cdr.delivered) {
        (Some(_), _) => "Connected",
        (None, Some(_)) => "Alerting",
        (None, None) => "Initialized",
    }
}

const fn disconnect_reason(cdr: &Cdr) -> &'static str {
    if let Some(Ending::Failover) = cdr.ending {
        return "Failover";
    }
    match cdr.outcome {
        Some(Outcome::Answered) => match cdr.ending {
            Some(Ending::Lost) => "DestinationOutOfOrder",
            Some(Ending::Caller | Ending::Callee | Ending::Server | Ending::Failover) | None => {
                "NormalCallClearing"
            }
        },
        Some(Outcome::Busy) => "Busy",
        Some(Outcome::NoAnswer) => "NoAnswer",
        Some(Outcome::Cancelled) => "Cancelled",
        Some(Outcome::Refused) => "Rejected",
        Some(Outcome::Failed) | None => "DestinationOutOfOrder",
    }
}

fn asterisk(cdr: &Cdr, end: i64, zone: &Zone) -> [String; 19] {
    let time = |at: Option<i64>| {
        at.map(|at| zone.local(at).strftime("%Y-%m-%d %H:%M:%S").to_string()).unwrap_or_default()
    };
    let (src, dst) = (cdr.origination_number.reveal(), cdr.called_number.reveal());
    let name = cdr.origination_name.reveal();
    let clid = if name.is_empty() { format!("<{src}>") } else { format!("\"{name}\" <{src}>") };
    let reached = cdr.destination_number.reveal();
    [
        text(&clid),
        number(src),
        number(dst),
        String::from("internal"),
        text(&cdr.origination_device),
        text(&cdr.destination_device),
        String::from("Dial"),
        number(reached),
        time(Some(cdr.start)),
        time(cdr.connect),
        time(Some(end)),
        ((end - cdr.start).max(0) / 1_000_000).to_string(),
        cdr.talk_seconds().to_string(),
        disposition(cdr).to_owned(),
        String::from("DOCUMENTATION"),
        String::new(),
        text(&cdr.call_id),
        text(&cdr.call_id),
        String::new(),
    ]
}

const fn disposition(cdr: &Cdr) -> &'static str {
    match cdr.outcome {
        Some(Outcome::Answered) => "ANSWERED",
        Some(Outcome::Busy) => "BUSY",
        Some(Outcome::NoAnswer | Outcome::Cancelled) => "NO ANSWER",
        Some(Outcome::Refused | Outcome::Failed) | None => "FAILED",
    }
}

/// Text that a stranger may have chosen (a user agent, a name): on one line, and nothing that a
/// spreadsheet would take for a formula.
fn text(text: &str) -> String {
    let mut plain = plain(text);
    if plain.trim_start().starts_with(['=', '+', '-', '@']) {
        plain.insert(0, '\'');
    }
    plain
}

/// As [`text`], but the `+` of a number, also of one that is hidden in part, belongs to it.
fn number(number: &str) -> String {
    let is_number = |rest: &str| rest.chars().all(|c| c.is_ascii_digit() || c == 'x');
    match number.strip_prefix('+') {
        Some(rest) if is_number(rest) => number.to_owned(),
        Some(_) | None => text(number),
    }
}

/// Fields in quotes, with commas between them (RFC 4180).
fn row(fields: &[String]) -> String {
    let quoted: Vec<String> =
        fields.iter().map(|field| format!("\"{}\"", field.replace('"', "\"\""))).collect();
    quoted.join(",")
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use expect_test::expect;
    use tandem_types::Pii;

    /// An answered call of 65 seconds, at the time of the reference's example.
    pub(crate) fn cdr() -> Cdr {
        const START: i64 = 1_795_352_585_000_000;
        Cdr {
            call_id: "c0ffee".into(),
            origination_number: Pii::new("10".into()),
            origination_name: Pii::new("Anna \"A\" Abel, Sales".into()),
            called_number: Pii::new("20".into()),
            called_name: Pii::new("Ben".into()),
            destination_number: Pii::new("20".into()),
            destination_name: Pii::new("Ben".into()),
            start: START,
            delivered: Some(START + 900_000),
            connect: Some(START + 4_999_999),
            end: Some(START + 70_500_000),
            outcome: Some(Outcome::Answered),
            ending: Some(Ending::Callee),
            sip_status: 200,
            q850_cause: 16,
            origination_device: "=cmd|' /C calc'!A0\r\nx udp 192.0.2.5:5060".into(),
            destination_device: "sip:ben@192.0.2.6 udp 192.0.2.6:5060".into(),
        }
    }

    fn page(format: Format) -> String {
        let cdr = cdr();
        let line = format.line(&cdr, cdr.end.unwrap(), None, &Zone::utc());
        format.header() + &line
    }

    #[test]
    fn the_reference_has_its_columns_quotes_dates_and_times() {
        let page = page(Format::Reference);
        expect![[r#"
            "CallID","OriginationNumber","OriginationName","CalledNumber","CalledName","DestinationNumber","DestinationName","StartDate","StartTime","ScriptConnectDate","ScriptConnectTime","DeliveredDate","DeliveredTime","ConnectDate","ConnectTime","EndDate","EndTime","Currency","Costs","State","PublicAccessPrefix","LCRProvider","ProjectNumber","AOC","OriginationDevice","DestinationDevice","TransferredByNumber","TransferredByName","TransferredCallID1","TransferredCallID2","TransferredToCallID","TransferDate","TransferTime","DisconnectReason"
            "c0ffee","10","Anna ""A"" Abel, Sales","20","Ben","20","Ben","22.11.2026","13:03:05","","","22.11.2026","13:03:05","22.11.2026","13:03:09","22.11.2026","13:04:15","","","Connected","","","","","'=cmd|' /C calc'!A0  x udp 192.0.2.5:5060","sip:ben@192.0.2.6 udp 192.0.2.6:5060","","","","","","","","NormalCallClearing"
        "#]].assert_eq(&page.replace("\r\n", "\n"));
        assert_eq!(page.matches("\r\n").count(), 2);
    }

    #[test]
    fn asterisk_has_its_columns() {
        expect![[r#"
            "clid","src","dst","dcontext","channel","dstchannel","lastapp","lastdata","start","answer","end","duration","billsec","disposition","amaflags","accountcode","uniqueid","linkedid","userfield"
            """Anna ""A"" Abel, Sales"" <10>","10","20","internal","'=cmd|' /C calc'!A0  x udp 192.0.2.5:5060","sip:ben@192.0.2.6 udp 192.0.2.6:5060","Dial","20","2026-11-22 13:03:05","2026-11-22 13:03:09","2026-11-22 13:04:15","70","65","ANSWERED","DOCUMENTATION","","c0ffee","c0ffee",""
        "#]].assert_eq(&page(Format::Asterisk));
    }

    #[test]
    fn json_has_everything() {
        expect![[r#"
            {"call_id":"c0ffee","called_name":"Ben","called_number":"20","connect":1795352589999999,"connect_time":"2026-11-22T13:03:09.999999Z","delivered":1795352585900000,"delivered_time":"2026-11-22T13:03:05.900000Z","destination_device":"sip:ben@192.0.2.6 udp 192.0.2.6:5060","destination_name":"Ben","destination_number":"20","end":1795352655500000,"end_time":"2026-11-22T13:04:15.500000Z","ending":"callee","events":null,"origination_device":"=cmd|' /C calc'!A0\r\nx udp 192.0.2.5:5060","origination_name":"Anna \"A\" Abel, Sales","origination_number":"10","outcome":"answered","q850_cause":16,"sip_status":200,"start":1795352585000000,"start_time":"2026-11-22T13:03:05.000000Z","talk_seconds":65}
        "#]].assert_eq(&page(Format::Jsonl));
    }

    #[test]
    fn what_a_stranger_chose_is_no_formula_and_on_one_line() {
        for (given, as_text, as_number) in [
            ("=1+1", "'=1+1", "'=1+1"),
            ("+49231", "'+49231", "+49231"),
            ("+49231xxx", "'+49231xxx", "+49231xxx"),
            ("+1+cmd|' /C calc'!A0", "'+1+cmd|' /C calc'!A0", "'+1+cmd|' /C calc'!A0"),
            ("-1", "'-1", "'-1"),
            ("@SUM(A1)", "'@SUM(A1)", "'@SUM(A1)"),
            ("\t=1", "' =1", "' =1"),
            ("  @x", "'  @x", "'  @x"),
            ("a\r\n\u{1b}[2J\0b", "a   [2J b", "a   [2J b"),
            ("", "", ""),
            ("20", "20", "20"),
        ] {
            assert_eq!((text(given).as_str(), number(given).as_str()), (as_text, as_number));
        }
    }

    #[test]
    fn every_outcome_has_a_word_in_every_format() {
        let mut words = Vec::new();
        for outcome in [Outcome::Busy, Outcome::NoAnswer, Outcome::Cancelled, Outcome::Refused] {
            let mut cdr = cdr();
            (cdr.connect, cdr.outcome) = (None, Some(outcome));
            words.push((state(&cdr), disconnect_reason(&cdr), disposition(&cdr)));
        }
        let expected = [
            ("Alerting", "Busy", "BUSY"),
            ("Alerting", "NoAnswer", "NO ANSWER"),
            ("Alerting", "Cancelled", "NO ANSWER"),
            ("Alerting", "Rejected", "FAILED"),
        ];
        assert_eq!(words, expected);
    }
}
