import com.fasterxml.jackson.databind.ObjectMapper;
import com.google.gson.Gson;
import java.io.InputStream;
import java.net.URL;
import java.net.URLClassLoader;
import java.nio.file.Paths;
import java.util.Map;
import org.apache.commons.codec.digest.DigestUtils;
import org.apache.commons.lang3.StringUtils;
import org.slf4j.LoggerFactory;

/** Loads some of its libraries at once, one late, one twice, reads some as data, and leaves others alone. */
public class App {
    public static void main(String[] arguments) throws Exception {
        LoggerFactory.getLogger("app").info(StringUtils.capitalize("up"));
        String json = new Gson().toJson(new ObjectMapper().readValue("{\"a\":1}", Map.class));
        System.out.println(json + " " + DigestUtils.md5Hex("x"));
        // As data only.
        try (InputStream in = App.class.getResourceAsStream("/org/joda/time/DateTime.class")) {
            System.out.println(in.readAllBytes().length > 0);
        }
        // The same in another version.
        URLClassLoader other = new URLClassLoader(new URL[] {Paths.get(arguments[0]).toUri().toURL()}, null);
        Class<?> codec = other.loadClass("org.apache.commons.codec.digest.DigestUtils");
        System.out.println(codec.getMethod("md5Hex", String.class).invoke(null, "x"));
        // A class that there is no file of.
        Object made = new net.bytebuddy.ByteBuddy().subclass(Object.class).make()
                .load(App.class.getClassLoader()).getLoaded().getDeclaredConstructor().newInstance();
        System.out.println(made.getClass().getSimpleName().isEmpty());
        // Late.
        Object yaml = Class.forName("org.yaml.snakeyaml.Yaml").getDeclaredConstructor().newInstance();
        System.out.println(yaml.getClass().getMethod("load", String.class).invoke(yaml, "b: 2"));
    }
}
