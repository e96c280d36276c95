//! Which error code of Kafka or its client asks for what.
//! Never lets a code pass as retriable that may hide a commit which happened.

use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};

use crate::broker::{BrokerError, BrokerErrorKind as Kind};

/// What a code asks of the caller.
pub(super) fn kind_of(code: Code) -> Kind {
    match code {
        Code::QueueFull => Kind::QueueFull,
        Code::UnknownTopic | Code::UnknownPartition | Code::UnknownTopicOrPartition => Kind::UnknownTopic,
        Code::MessageSizeTooLarge | Code::MessageBatchTooLarge | Code::InvalidMessageSize => {
            Kind::RecordTooLarge
        }
        Code::OffsetOutOfRange | Code::AutoOffsetReset | Code::LogTruncation => Kind::OffsetOutOfRange,
        Code::NoOffset => Kind::NoCommittedOffset,
        Code::Fenced
        | Code::ProducerFenced
        | Code::InvalidProducerEpoch
        | Code::InvalidProducerIdMapping
        | Code::FencedInstanceId
        | Code::UnreleasedInstanceId => Kind::Fenced,
        // The group went on without this member; it joins again by polling.
        Code::IllegalGeneration | Code::UnknownMemberId | Code::AssignmentLost => Kind::AbortTransaction,
        Code::Authentication
        | Code::SaslAuthenticationFailed
        | Code::UnsupportedSASLMechanism
        | Code::TopicAuthorizationFailed
        | Code::GroupAuthorizationFailed
        | Code::ClusterAuthorizationFailed
        | Code::TransactionalIdAuthorizationFailed
        | Code::SSL => Kind::Unauthorized,
        Code::InvalidConfig
        | Code::InvalidArgument
        | Code::InvalidReplicationFactor
        | Code::InvalidPartitions
        | Code::InvalidTopic
        | Code::InvalidSessionTimeout
        | Code::InvalidTransactionTimeout
        | Code::InconsistentGroupProtocol
        | Code::PolicyViolation
        | Code::UnsupportedVersion
        | Code::UnsupportedFeature
        | Code::NotConfigured => Kind::Configuration,
        Code::State | Code::NotImplemented | Code::Conflict => Kind::Misuse,
        Code::Fatal
        | Code::GaplessGuarantee
        | Code::Inconsistent
        | Code::BadMessage
        | Code::BadCompression => Kind::Fatal,
        // The rest passes: servers away or moving, timeouts, coordinators loading.
        _ => Kind::Retriable,
    }
}

/// What to do about a kind of error, for the end of a message.
fn remedy(kind: Kind) -> &'static str {
    match kind {
        Kind::Retriable => "check kafka.brokers, kafka.security_protocol and that the broker runs",
        Kind::QueueFull => "the broker takes records more slowly than they come",
        Kind::Unauthorized => "check kafka.sasl, kafka.tls and the broker's access rules",
        Kind::Configuration => "check the kafka section of the configuration",
        Kind::UnknownTopic => "check kafka.topic_prefix; topics are created by the services at start",
        Kind::RecordTooLarge => "split it into chunks",
        Kind::OffsetOutOfRange => {
            "records were removed before they were read; raise the topic's retention and decide where to go on"
        }
        Kind::Fenced => "another process with the same id took over; stop one of them",
        Kind::DeliveryFailed => {
            "send what was sent since the last successful flush again; check that the broker runs"
        }
        Kind::NoCommittedOffset => "no offset is committed yet",
        Kind::AbortTransaction => "abort, seek back to the committed offsets, begin anew",
        Kind::OutcomeUnknown => "open a new producer and read the committed offsets again",
        Kind::Misuse => "this is a defect; report it",
        Kind::Fatal => "restart the service",
    }
}

/// An error of `kind` about `what` (`fetching offsets of group x`) at `servers`.
pub(super) fn error(kind: Kind, servers: &str, what: &str, reason: &str) -> BrokerError {
    // A server that refuses our certificate closes the connection, which alone would look like a broker that is away.
    let remedy = match kind {
        Kind::Retriable if reason.contains("SSL routines") => {
            "check kafka.tls: the broker wants another certificate, or none at all"
        }
        _ => remedy(kind),
    };
    BrokerError::new(kind, format_args!("broker {servers}: {what}: {reason}; {remedy}"))
}

/// As [`error`], from a client error; `hint` is what the connection last said.
pub(super) fn from_kafka(servers: &str, what: &str, error_: &KafkaError, hint: Option<&str>) -> BrokerError {
    let (kind, mut reason) = match error_ {
        KafkaError::Transaction(inner) => (kind_of(inner.code()), inner.string()),
        KafkaError::ClientConfig(_, description, key, value) => {
            (Kind::Configuration, format!("{key}={value}: {description}"))
        }
        KafkaError::ClientCreation(reason) | KafkaError::AdminOpCreation(reason) => {
            (Kind::Configuration, reason.clone())
        }
        KafkaError::Nul(_) => (Kind::Configuration, "a name contains a NUL byte".to_owned()),
        KafkaError::AdminOp(code) => (kind_of(*code), code.to_string()),
        other => match other.rdkafka_error_code() {
            Some(code) => (kind_of(code), code.to_string()),
            None => (Kind::Fatal, other.to_string()),
        },
    };
    if let Some(hint) = hint.filter(|_| kind == Kind::Retriable) {
        reason = format!("{reason} ({hint})");
    }
    error(kind, servers, what, &reason)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds() {
        fn check(code: Code, expect: Kind) {
            assert_eq!(kind_of(code), expect, "{code}");
        }
        check(Code::AllBrokersDown, Kind::Retriable);
        check(Code::NotLeaderForPartition, Kind::Retriable);
        check(Code::ProducerFenced, Kind::Fenced);
        check(Code::FencedInstanceId, Kind::Fenced);
        check(Code::MessageSizeTooLarge, Kind::RecordTooLarge);
        check(Code::AutoOffsetReset, Kind::OffsetOutOfRange);
        check(Code::TopicAuthorizationFailed, Kind::Unauthorized);
        check(Code::UnknownTopicOrPartition, Kind::UnknownTopic);
        check(Code::State, Kind::Misuse);
    }
}
