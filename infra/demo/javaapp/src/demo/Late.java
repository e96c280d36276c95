package demo;

import com.google.common.collect.ImmutableSortedSet;
import com.google.gson.Gson;
import java.util.List;
import org.apache.commons.codec.digest.DigestUtils;
import org.apache.commons.text.WordUtils;
import org.jsoup.Jsoup;

/** What loads only when a request needs it. */
final class Late {
    private Late() {}

    static String text() {
        return WordUtils.capitalizeFully("loaded on request");
    }

    static String hash() {
        return DigestUtils.sha256Hex("demo");
    }

    static String cache() {
        return ImmutableSortedSet.of("b", "a").toString();
    }

    static String html() {
        return Jsoup.parse("<p>hello</p>").text();
    }

    static String gson(List<Integer> numbers) {
        return new Gson().toJson(numbers);
    }
}
