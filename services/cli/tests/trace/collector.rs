//! A small OTLP/HTTP collector: keeps the spans that it is sent (OTLP specification 1.7, binary protobuf).
//! It must never answer a request that it could not read with success.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value::Value};
use prost::Message;

/// A span as it came.
#[derive(Clone, Debug)]
pub struct Recorded {
    pub service: String,
    pub name: String,
    pub trace: Vec<u8>,
    pub id: Vec<u8>,
    /// Empty: none.
    pub parent: Vec<u8>,
    pub attributes: Vec<(String, String)>,
}

pub struct Collector {
    address: std::net::SocketAddr,
    spans: Arc<Mutex<Vec<Recorded>>>,
}

impl Collector {
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let spans = Arc::new(Mutex::new(Vec::new()));
        let kept = spans.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (stream, kept) = (stream.unwrap(), kept.clone());
                std::thread::spawn(move || serve(stream, &kept));
            }
        });
        Self { address, spans }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn spans(&self) -> Vec<Recorded> {
        self.spans.lock().unwrap().clone()
    }
}

/// Answers one connection's requests, until it is closed.
fn serve(mut stream: TcpStream, spans: &Mutex<Vec<Recorded>>) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    while let Some(body) = request(&mut reader) {
        let request = ExportTraceServiceRequest::decode(body.as_slice()).unwrap();
        spans.lock().unwrap().extend(recorded(&request));
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").unwrap();
    }
}

/// The body of the next request; nothing at the end of the connection.
fn request(reader: &mut impl BufRead) -> Option<Vec<u8>> {
    let mut length = 0;
    let mut first = String::new();
    if reader.read_line(&mut first).ok()? == 0 {
        return None;
    }
    assert!(first.starts_with("POST /v1/traces "), "{first}");
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim().split_once(':') else { break };
        if name.eq_ignore_ascii_case("content-length") {
            length = value.trim().parse().unwrap();
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some(body)
}

fn recorded(request: &ExportTraceServiceRequest) -> Vec<Recorded> {
    let mut found = Vec::new();
    for of_resource in &request.resource_spans {
        let attributes = of_resource.resource.iter().flat_map(|resource| texts(&resource.attributes));
        let service = attributes.into_iter().find(|(key, _)| key == "service.name").unwrap_or_default().1;
        for span in of_resource.scope_spans.iter().flat_map(|scope| &scope.spans) {
            found.push(Recorded {
                service: service.clone(),
                name: span.name.clone(),
                trace: span.trace_id.clone(),
                id: span.span_id.clone(),
                parent: span.parent_span_id.clone(),
                attributes: texts(&span.attributes),
            });
        }
    }
    found
}

fn texts(attributes: &[KeyValue]) -> Vec<(String, String)> {
    let text = |value: &Option<AnyValue>| match value.as_ref().and_then(|value| value.value.as_ref()) {
        Some(Value::StringValue(text)) => text.clone(),
        other => format!("{other:?}"),
    };
    attributes.iter().map(|attribute| (attribute.key.clone(), text(&attribute.value))).collect()
}
