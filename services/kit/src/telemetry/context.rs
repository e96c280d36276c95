//! W3C trace context in record headers (https://www.w3.org/TR/trace-context/#traceparent-header).
//! Never fails a record for a malformed header: it begins a new trace instead.

use opentelemetry::trace::{SpanContext, SpanId, TraceContextExt, TraceFlags, TraceId, TraceState};
use tracing_opentelemetry::OpenTelemetrySpanExt;

use crate::broker::Headers;

/// Name of the header.
pub const TRACEPARENT_HEADER: &str = "traceparent";

/// A trace and a span in it: the parent of what is done with a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceParent {
    /// 16 bytes, not all zero.
    pub trace_id: [u8; 16],
    /// 8 bytes, not all zero.
    pub span_id: [u8; 8],
    /// Whether the trace is exported.
    pub sampled: bool,
}

impl TraceParent {
    /// Parses a header's value; versions above 00 are read by their first four fields, as the specification says.
    pub fn parse(value: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(value).ok()?;
        let mut parts = text.split('-');
        let (version, trace, span, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        let version: [u8; 1] = hex(version)?;
        if version[0] == 0xff || version[0] == 0 && parts.next().is_some() {
            return None;
        }
        let parsed =
            Self { trace_id: hex(trace)?, span_id: hex(span)?, sampled: hex::<1>(flags)?[0] & 1 == 1 };
        (parsed.trace_id != [0; 16] && parsed.span_id != [0; 8]).then_some(parsed)
    }

    /// The header's value.
    pub fn print(&self) -> String {
        let digits = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        format!("00-{}-{}-{:02x}", digits(&self.trace_id), digits(&self.span_id), u8::from(self.sampled))
    }
}

/// Lower-case hexadecimal of exactly `N` bytes.
fn hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digits = text.as_bytes();
    if digits.len() != 2 * N || digits.iter().any(u8::is_ascii_uppercase) {
        return None;
    }
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        let high = char::from(pair[0]).to_digit(16)?;
        let low = char::from(pair[1]).to_digit(16)?;
        *byte = u8::try_from(high * 16 + low).ok()?;
    }
    Some(bytes)
}

/// Writes the trace context of the current span into `headers`, replacing an older one. Without an exporter there is
/// none: a `traceparent` that is already there is kept, so that the chain does not break at a service without export.
pub fn inject_current(headers: &mut Headers) {
    if let Some(parent) = current() {
        inject(headers, &parent);
    }
}

/// Writes `parent` into `headers`, replacing an older one.
pub fn inject(headers: &mut Headers, parent: &TraceParent) {
    headers.retain(|(name, _)| name != TRACEPARENT_HEADER);
    headers.push((TRACEPARENT_HEADER.to_owned(), parent.print().into_bytes()));
}

/// The trace context in `headers`.
pub fn extract(headers: &Headers) -> Option<TraceParent> {
    let found = headers.iter().rev().find(|(name, _)| name.eq_ignore_ascii_case(TRACEPARENT_HEADER))?;
    TraceParent::parse(&found.1)
}

/// Makes `span` a child of `parent`. Call it before the span is entered.
pub fn set_parent(span: &tracing::Span, parent: &TraceParent) {
    let flags = if parent.sampled { TraceFlags::SAMPLED } else { TraceFlags::default() };
    let context = SpanContext::new(
        TraceId::from_bytes(parent.trace_id),
        SpanId::from_bytes(parent.span_id),
        flags,
        true,
        TraceState::default(),
    );
    // Fails only when no exporter is set up: then there is nothing to link.
    let _ = span.set_parent(opentelemetry::Context::new().with_remote_span_context(context));
}

fn current() -> Option<TraceParent> {
    let context = tracing::Span::current().context();
    let span = context.span();
    let span = span.span_context();
    span.is_valid().then(|| TraceParent {
        trace_id: span.trace_id().to_bytes(),
        span_id: span.span_id().to_bytes(),
        sampled: span.is_sampled(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn traceparent_values() {
        fn check(value: &str, expect: Option<&str>) {
            assert_eq!(TraceParent::parse(value.as_bytes()).map(|p| p.print()).as_deref(), expect, "{value}");
        }
        let good = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        check(good, Some(good));
        check(&good.replace("-01", "-00"), Some(&good.replace("-01", "-00")));
        check(&good.replacen("00-", "01-", 1), Some(good));
        check("cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-what", Some(good));
        check(&format!("{good}-more"), None);
        check(&good.replacen("00-", "ff-", 1), None);
        check(&good.to_uppercase(), None);
        check("00-00000000000000000000000000000000-00f067aa0ba902b7-01", None);
        check("00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01", None);
        check("00-4bf9-00f067aa0ba902b7-01", None);
        check("", None);
    }

    #[test]
    fn headers_carry_one_context() {
        let mut headers = vec![("traceparent".to_owned(), b"broken".to_vec())];
        assert_eq!(extract(&headers), None);
        let parent = TraceParent { trace_id: [1; 16], span_id: [2; 8], sampled: true };
        inject(&mut headers, &parent);
        inject_current(&mut headers);
        assert_eq!(headers.len(), 1);
        assert_eq!(extract(&headers), Some(parent));
    }
}
