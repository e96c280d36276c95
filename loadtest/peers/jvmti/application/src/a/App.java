/* SPDX-License-Identifier: Apache-2.0 */
package a;

import org.springframework.boot.SpringApplication;
import org.springframework.boot.autoconfigure.SpringBootApplication;

/** A web service that ends as soon as it has started: agents are told of the JVM's end, and nothing else happens then. */
@SpringBootApplication
public class App {
    public static void main(String[] arguments) {
        SpringApplication.run(App.class, arguments);
        Runtime.getRuntime().halt(0);
    }
}
