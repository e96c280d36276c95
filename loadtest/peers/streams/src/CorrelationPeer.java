import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.time.Duration;
import java.util.*;
import org.apache.avro.Schema;
import org.apache.avro.generic.*;
import org.apache.avro.io.*;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.common.utils.Utils;
import org.apache.kafka.streams.*;
import org.apache.kafka.streams.processor.PunctuationType;
import org.apache.kafka.streams.processor.StreamPartitioner;
import org.apache.kafka.streams.processor.api.*;
import org.apache.kafka.streams.processor.api.Record;
import org.apache.kafka.streams.state.*;

/**
 * The correlator's join on Kafka Streams (EOS v2): package, findings, owners, uses and watching of each image, put out
 * as correlation.packages and correlation.usage. It does less than the correlator does: no reasons, totals, dead
 * letters, scan generations, drift or expiry.
 *
 * <p>Arguments: bootstrap server, topic prefix, folder of the schemas, state folder, ids of the two output schemas.
 */
public final class CorrelationPeer {
  static final char SEPARATOR = 0x1f;
  /** What the correlator gathers for under such a load (BUSY_INTERVALS of its engine). */
  static final Duration COMMIT_INTERVAL = Duration.ofMillis(400);

  public static void main(String[] arguments) throws Exception {
    String prefix = arguments[1];
    Path schemas = Path.of(arguments[2]);
    Schemas all = new Schemas(schemas, Integer.parseInt(arguments[4]), Integer.parseInt(arguments[5]));

    Properties settings = new Properties();
    settings.put(StreamsConfig.APPLICATION_ID_CONFIG, prefix + "-peer");
    settings.put(StreamsConfig.BOOTSTRAP_SERVERS_CONFIG, arguments[0]);
    settings.put(StreamsConfig.STATE_DIR_CONFIG, arguments[3]);
    settings.put(StreamsConfig.PROCESSING_GUARANTEE_CONFIG, StreamsConfig.EXACTLY_ONCE_V2);
    settings.put(StreamsConfig.COMMIT_INTERVAL_MS_CONFIG, (int) COMMIT_INTERVAL.toMillis());
    settings.put(StreamsConfig.NUM_STREAM_THREADS_CONFIG, Runtime.getRuntime().availableProcessors());
    settings.put(StreamsConfig.REPLICATION_FACTOR_CONFIG, 1);
    settings.put(StreamsConfig.STATESTORE_CACHE_MAX_BYTES_CONFIG, 256 * 1024 * 1024);
    settings.put(StreamsConfig.consumerPrefix("auto.offset.reset"), "earliest");
    settings.put(StreamsConfig.consumerPrefix("max.poll.records"), 2000);

    Topology topology = new Topology();
    List<String> sources = new ArrayList<>();
    for (String name :
        List.of("scan.artifacts", "scan.packages", "scan.findings", "package.ownership", "runtime.workloads",
            "runtime.usage")) {
      topology.addSource(name, Serdes.ByteArray().deserializer(), Serdes.ByteArray().deserializer(),
          prefix + "." + name + ".v1");
      sources.add(name);
    }
    topology.addProcessor("join", () -> new Join(all, prefix), sources.toArray(new String[0]));
    for (String store : List.of("packages", "owners", "uses", "watched")) {
      StoreBuilder<KeyValueStore<String, byte[]>> builder =
          Stores.keyValueStoreBuilder(Stores.persistentKeyValueStore(store), Serdes.String(), Serdes.ByteArray())
              .withCachingEnabled();
      topology.addStateStore(builder, "join");
    }
    StreamPartitioner<byte[], byte[]> byArtifact =
        (topic, key, value, count) -> Optional.of(Set.of(partition(key, count)));
    topology.addSink("packages-out", prefix + ".peer.packages", Serdes.ByteArray().serializer(),
        Serdes.ByteArray().serializer(), byArtifact, "join");
    topology.addSink("usage-out", prefix + ".peer.usage", Serdes.ByteArray().serializer(),
        Serdes.ByteArray().serializer(), byArtifact, "join");

    KafkaStreams streams = new KafkaStreams(topology, settings);
    streams.setUncaughtExceptionHandler(error -> {
      error.printStackTrace();
      return org.apache.kafka.streams.errors.StreamsUncaughtExceptionHandler.StreamThreadExceptionResponse
          .SHUTDOWN_APPLICATION;
    });
    Runtime.getRuntime().addShutdownHook(new Thread(streams::close));
    streams.start();
  }

  /** The partition of a key is that of its artifact, as for all topics of Plimsoll. */
  static int partition(byte[] key, int count) {
    int end = 0;
    while (end < key.length && key[end] != SEPARATOR) {
      end++;
    }
    return Utils.toPositive(Utils.murmur2(Arrays.copyOf(key, end))) % count;
  }

  static final class Schemas {
    final Map<String, Schema> inputs = new HashMap<>();
    final Schema packageSchema;
    final Schema usageSchema;
    final int packageId;
    final int usageId;

    Schemas(Path folder, int packageId, int usageId) throws IOException {
      for (String[] pair : new String[][] {
        {"scan.artifacts", "scan_artifact"}, {"scan.packages", "scan_package"}, {"scan.findings", "scan_findings"},
        {"package.ownership", "package_ownership"}, {"runtime.workloads", "runtime_workload"},
        {"runtime.usage", "runtime_usage"}
      }) {
        inputs.put(pair[0], new Schema.Parser().parse(folder.resolve(pair[1] + ".avsc").toFile()));
      }
      packageSchema = new Schema.Parser().parse(folder.resolve("correlation_package.avsc").toFile());
      usageSchema = new Schema.Parser().parse(folder.resolve("correlation_usage.avsc").toFile());
      this.packageId = packageId;
      this.usageId = usageId;
    }
  }

  static final class Join implements Processor<byte[], byte[], byte[], byte[]> {
    private final Schemas schemas;
    private final String prefix;
    private final Map<String, GenericDatumReader<GenericRecord>> readers = new HashMap<>();
    private final GenericDatumWriter<GenericRecord> packageWriter;
    private final GenericDatumWriter<GenericRecord> usageWriter;
    private final Set<String> dirty = new LinkedHashSet<>();
    private ProcessorContext<byte[], byte[]> context;
    private KeyValueStore<String, byte[]> packages;
    private KeyValueStore<String, byte[]> owners;
    private KeyValueStore<String, byte[]> uses;
    private KeyValueStore<String, byte[]> watched;
    private BinaryDecoder decoder;
    private BinaryEncoder encoder;

    Join(Schemas schemas, String prefix) {
      this.schemas = schemas;
      this.prefix = prefix;
      schemas.inputs.forEach((name, schema) -> readers.put(name, new GenericDatumReader<>(schema)));
      packageWriter = new GenericDatumWriter<>(schemas.packageSchema);
      usageWriter = new GenericDatumWriter<>(schemas.usageSchema);
    }

    @Override
    public void init(ProcessorContext<byte[], byte[]> context) {
      this.context = context;
      packages = context.getStateStore("packages");
      owners = context.getStateStore("owners");
      uses = context.getStateStore("uses");
      watched = context.getStateStore("watched");
      context.schedule(COMMIT_INTERVAL, PunctuationType.WALL_CLOCK_TIME, now -> putOut());
    }

    @Override
    public void process(Record<byte[], byte[]> input) {
      String topic = context.recordMetadata().get().topic();
      String name = topic.substring(prefix.length() + 1, topic.length() - ".v1".length());
      try {
        decoder = DecoderFactory.get().binaryDecoder(input.value(), 5, input.value().length - 5, decoder);
        GenericRecord event = readers.get(name).read(null, decoder);
        String artifact = text(event, "artifact");
        switch (name) {
          case "scan.artifacts" -> join(artifact, event);
          case "scan.packages" -> onPackage(artifact, event);
          case "scan.findings" -> onFindings(artifact, event);
          case "package.ownership" -> onOwnership(artifact, event);
          case "runtime.workloads" -> onWorkload(artifact, event);
          case "runtime.usage" -> onUsage(artifact, event);
          default -> throw new IllegalStateException(name);
        }
      } catch (IOException error) {
        throw new UncheckedIOException(error);
      }
      if (dirty.size() > 10_000) {
        putOut();
      }
    }

    /** State of a package: fields joined by line ends; findings and span of use are replaced on their own. */
    private static final class State {
      String purl = "";
      String name = "";
      String version = "";
      String component = "";
      List<String> vulnerabilities = List.of();
      long first;
      long last;

      static State read(byte[] bytes) {
        State state = new State();
        if (bytes == null) {
          return state;
        }
        ByteBuffer in = ByteBuffer.wrap(bytes);
        state.first = in.getLong();
        state.last = in.getLong();
        String[] parts = new String(bytes, 16, bytes.length - 16, StandardCharsets.UTF_8).split("\n", -1);
        state.purl = parts[0];
        state.name = parts[1];
        state.version = parts[2];
        state.component = parts[3];
        state.vulnerabilities = parts[4].isEmpty() ? List.of() : List.of(parts[4].split(" "));
        return state;
      }

      byte[] write() {
        String all = String.join("\n", purl, name, version, component, String.join(" ", vulnerabilities));
        byte[] utf8 = all.getBytes(StandardCharsets.UTF_8);
        return ByteBuffer.allocate(16 + utf8.length).putLong(first).putLong(last).put(utf8).array();
      }
    }

    private static String text(GenericRecord event, String field) {
      return event.get(field).toString();
    }

    private static String bytes(GenericRecord event, String field) {
      ByteBuffer value = (ByteBuffer) event.get(field);
      return StandardCharsets.ISO_8859_1.decode(value.duplicate()).toString();
    }

    /** The scan names the component. */
    private void join(String artifact, GenericRecord event) {
      String component =
          text(event, "application") + "/" + text(event, "component") + "/" + text(event, "component_version");
      watched.putIfAbsent("component" + SEPARATOR + artifact, component.getBytes(StandardCharsets.UTF_8));
    }

    private void onPackage(String artifact, GenericRecord event) {
      String key = artifact + SEPARATOR + text(event, "package_id");
      State state = State.read(packages.get(key));
      state.purl = text(event, "purl");
      state.name = text(event, "name");
      state.version = text(event, "version");
      packages.put(key, state.write());
      dirty.add(key);
    }

    @SuppressWarnings("unchecked")
    private void onFindings(String artifact, GenericRecord event) {
      String key = artifact + SEPARATOR + text(event, "package_id");
      State state = State.read(packages.get(key));
      List<String> ids = new ArrayList<>();
      for (GenericRecord finding : (Collection<GenericRecord>) event.get("findings")) {
        ids.add(text(finding, "id"));
      }
      state.vulnerabilities = ids;
      packages.put(key, state.write());
      dirty.add(key);
    }

    @SuppressWarnings("unchecked")
    private void onOwnership(String artifact, GenericRecord event) {
      String path = artifact + SEPARATOR + bytes(event, "path");
      List<String> ids = new ArrayList<>();
      for (GenericRecord owner : (Collection<GenericRecord>) event.get("owners")) {
        ids.add(text(owner, "package_id"));
      }
      owners.put(path, String.join(" ", ids).getBytes(StandardCharsets.UTF_8));
      byte[] waiting = uses.get(path);
      if (waiting != null) {
        ByteBuffer span = ByteBuffer.wrap(waiting);
        ids.forEach(id -> credit(artifact + SEPARATOR + id, span.getLong(0), span.getLong(8)));
      }
    }

    @SuppressWarnings("unchecked")
    private void onWorkload(String artifact, GenericRecord event) {
      boolean fromFirstExec = false;
      for (GenericRecord interval : (Collection<GenericRecord>) event.get("watched")) {
        fromFirstExec |= (Boolean) interval.get("from_first_exec");
      }
      String key = "watched" + SEPARATOR + artifact;
      boolean first = watched.get(key) == null;
      watched.put(key, new byte[] {(byte) (fromFirstExec ? 1 : 0)});
      if (first) {
        // Every package of the image is unused from now on, unless it is seen.
        try (KeyValueIterator<String, byte[]> all =
            packages.range(artifact + SEPARATOR, artifact + (char) (SEPARATOR + 1))) {
          all.forEachRemaining(entry -> dirty.add(entry.key));
        }
      }
    }

    @SuppressWarnings("unchecked")
    private void onUsage(String artifact, GenericRecord event) {
      for (GenericRecord item : (Collection<GenericRecord>) event.get("items")) {
        String path = artifact + SEPARATOR + bytes(item, "path");
        long first = (Long) item.get("first_seen_ms");
        long last = (Long) item.get("last_seen_ms");
        byte[] known = uses.get(path);
        if (known != null) {
          ByteBuffer span = ByteBuffer.wrap(known);
          first = Math.min(first, span.getLong(0));
          last = Math.max(last, span.getLong(8));
        }
        uses.put(path, ByteBuffer.allocate(16).putLong(first).putLong(last).array());
        byte[] ids = owners.get(path);
        if (ids != null) {
          for (String id : new String(ids, StandardCharsets.UTF_8).split(" ")) {
            credit(artifact + SEPARATOR + id, first, last);
          }
        }
      }
    }

    private void credit(String key, long first, long last) {
      State state = State.read(packages.get(key));
      long newFirst = state.first == 0 ? first : Math.min(state.first, first);
      long newLast = Math.max(state.last, last);
      if (newFirst == state.first && newLast == state.last) {
        return;
      }
      state.first = newFirst;
      state.last = newLast;
      packages.put(key, state.write());
      dirty.add(key);
    }

    private void putOut() {
      try {
        for (String key : dirty) {
          put(key, State.read(packages.get(key)));
        }
      } catch (IOException error) {
        throw new UncheckedIOException(error);
      }
      dirty.clear();
    }

    private void put(String key, State state) throws IOException {
      int split = key.indexOf(SEPARATOR);
      String artifact = key.substring(0, split);
      byte[] watch = watched.get("watched" + SEPARATOR + artifact);
      byte[] component = watched.get("component" + SEPARATOR + artifact);
      String use = state.first != 0 ? "used" : watch != null && watch[0] == 1 ? "unused" : "not_measured";
      byte[] name = key.getBytes(StandardCharsets.UTF_8);
      GenericRecord one = fill(schemas.packageSchema, artifact, key.substring(split + 1), state, use);
      context.forward(new Record<>(name, wire(one, packageWriter, schemas.packageId), 0L), "packages-out");
      if (component != null) {
        String[] names = new String(component, StandardCharsets.UTF_8).split("/");
        GenericRecord usage = fill(schemas.usageSchema, artifact, key.substring(split + 1), state, use);
        usage.put("application", names[0]);
        usage.put("component", names[1]);
        usage.put("component_version", names[2]);
        usage.put("chunk_count", 1);
        context.forward(new Record<>(name, wire(usage, usageWriter, schemas.usageId), 0L), "usage-out");
      }
    }

    private static GenericRecord fill(Schema schema, String artifact, String id, State state, String use) {
      GenericRecordBuilder builder = new GenericRecordBuilder(schema);
      List<GenericRecord> vulnerabilities = new ArrayList<>();
      Schema of = schema.getField("vulnerabilities").schema().getElementType();
      for (String vulnerability : state.vulnerabilities) {
        vulnerabilities.add(new GenericRecordBuilder(of).set("id", vulnerability).set("severity", "high").build());
      }
      boolean vulnerable = !vulnerabilities.isEmpty();
      boolean used = use.equals("used");
      return builder
          .set("artifact", artifact)
          .set("package_id", id)
          .set("purl", state.purl)
          .set("name", state.name)
          .set("version", state.version)
          .set("kind", "os")
          .set("ecosystem", "debian")
          .set("scanned", true)
          .set("vulnerable", vulnerable ? "yes" : "no")
          .set("severity", vulnerable ? "high" : "none")
          .set("vulnerability_count", (long) vulnerabilities.size())
          .set("vulnerabilities", vulnerabilities)
          .set("use", use)
          .set("rung", used ? "loaded" : "deployed")
          .set("first_used_ms", state.first)
          .set("last_used_ms", state.last)
          .set("recommendation_code", used ? vulnerable ? "upgrade" : "no_action" : "remove")
          .build();
    }

    private byte[] wire(GenericRecord event, GenericDatumWriter<GenericRecord> writer, int id) throws IOException {
      ByteArrayOutputStream out = new ByteArrayOutputStream(512);
      out.write(0);
      out.write(ByteBuffer.allocate(4).putInt(id).array());
      encoder = EncoderFactory.get().binaryEncoder(out, encoder);
      writer.write(event, encoder);
      encoder.flush();
      return out.toByteArray();
    }
  }
}
