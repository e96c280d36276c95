package demo;

import com.fasterxml.jackson.databind.ObjectMapper;
import com.sun.net.httpserver.HttpExchange;
import com.sun.net.httpserver.HttpServer;
import java.io.IOException;
import java.io.InputStream;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.net.URL;
import java.net.URLClassLoader;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CountDownLatch;
import org.apache.commons.lang3.StringUtils;
import org.apache.logging.log4j.LogManager;
import org.apache.logging.log4j.Logger;
import org.yaml.snakeyaml.Yaml;

/** The demo's service. It answers on the loopback interface alone, and some of its libraries load only when asked. */
public final class Main {
    private static final Logger LOG = LogManager.getLogger(Main.class);
    private static final ObjectMapper JSON = new ObjectMapper();
    private static final CountDownLatch STOP = new CountDownLatch(1);

    interface Page {
        Object answer() throws Exception;
    }

    public static void main(String[] arguments) throws Exception {
        Map<String, Object> config;
        try (InputStream file = Files.newInputStream(Path.of("config.yaml"))) {
            config = new Yaml().load(file);
        }
        int port = Integer.parseInt(System.getenv().getOrDefault("PORT", "8000"));
        HttpServer server = HttpServer.create(new InetSocketAddress(InetAddress.getLoopbackAddress(), port), 0);
        page(server, "/health", () -> "ok");
        page(server, "/", () -> StringUtils.capitalize(String.valueOf(config.get("title"))));
        page(server, "/names", () -> JSON.writeValueAsString(config.get("names")));
        page(server, "/text", Late::text);
        page(server, "/hash", Late::hash);
        page(server, "/cache", Late::cache);
        page(server, "/html", Late::html);
        page(server, "/plugin", Main::plugin);
        page(server, "/data", Main::data);
        page(server, "/library", Main::library);
        page(server, "/quit", () -> {
            STOP.countDown();
            return "stopping";
        });
        server.start();
        LOG.error("serving on http://127.0.0.1:{}", port);
        STOP.await();
        server.stop(1);
    }

    private static void page(HttpServer server, String path, Page page) {
        server.createContext(path, exchange -> {
            if (!exchange.getRequestURI().getPath().equals(path)) {
                send(exchange, 404, "no such page");
                return;
            }
            try {
                send(exchange, 200, String.valueOf(page.answer()));
            } catch (Exception | LinkageError error) {
                send(exchange, 500, error.toString());
            }
        });
    }

    private static void send(HttpExchange exchange, int status, String text) throws IOException {
        byte[] body = text.getBytes(StandardCharsets.UTF_8);
        exchange.sendResponseHeaders(status, body.length);
        exchange.getResponseBody().write(body);
        exchange.close();
    }

    /** Another version of a library that the service has itself, in a class loader of its own. */
    private static Object plugin() throws Exception {
        URL jar = Path.of("plugins/commons-lang3-3.4.jar").toUri().toURL();
        try (URLClassLoader loader = new URLClassLoader(new URL[] {jar}, ClassLoader.getPlatformClassLoader())) {
            Class<?> utils = loader.loadClass("org.apache.commons.lang3.StringUtils");
            return utils.getMethod("reverse", String.class).invoke(null, "plugin");
        }
    }

    /** Reads an archive as bytes: that is no use of what is in it. */
    private static Object data() throws IOException {
        return Files.readAllBytes(Path.of("lib/h2-1.4.197.jar")).length;
    }

    /** Loads a library that nothing has loaded yet, and says when it began to. */
    private static Object library() throws Exception {
        long began = System.currentTimeMillis();
        String loaded = Late.gson(List.of(1, 2, 3));
        return "{\"began_ms\":" + began + ",\"loaded\":" + loaded + "}";
    }
}
