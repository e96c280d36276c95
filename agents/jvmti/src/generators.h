/* SPDX-License-Identifier: Apache-2.0
 * Which classes without a code source were generated in this JVM: by their own names, or by the class of their loader.
 * It must never take a class for generated that may have come from an archive: that archive would look unused. */
#pragma once

/* Superclasses of a loader that are looked at; real ones have fewer than ten. */
#define LOADER_SUPERCLASSES 16

/* Names that only generated classes have, and those that an agent copies out of its own archive, which is in use anyway. */
static int is_generated(const char *name, size_t length)
{
	/* Of the JDK's engines, of libraries that make classes, and of agents that trace applications. */
	static const char *const prefixes[] = { "jdk/internal/reflect/Generated",
						"sun/reflect/Generated",
						"jdk/nashorn/internal/scripts/",
						"die/verwandlung/",
						"net/bytebuddy/mirror/",
						"net/bytebuddy/dynamic/Nexus",
						"io/opentelemetry/javaagent/" };
	static const char *const parts[] = { "$$", "$ByteBuddy$", "$ByteBuddyAccessor$", "$MockitoMock$",
					     "$HibernateProxy$", "$jnr$ffi$" };
	size_t base = 0;

	for (size_t i = 0; i < length; i++) {
		if (name[i] == '/')
			base = i + 1;
		for (size_t p = 0; name[i] == '$' && p < sizeof(parts) / sizeof(parts[0]); p++)
			if (starts_with(name + i, length - i, parts[p]))
				return 1;
	}
	for (size_t p = 0; p < sizeof(prefixes) / sizeof(prefixes[0]); p++)
		if (starts_with(name, length, prefixes[p]))
			return 1;
	return starts_with(name + base, length - base, "$Proxy");
}

/* Class loaders that define what their library has just made or compiled. What such a one loads from an archive has a code
 * source, since its superclass in the JDK gives it one. */
static int is_generator(const char *loader, size_t length)
{
	static const char *const loaders[] = {
		/* Languages: Clojure, JRuby, Jython, Groovy, Scala's and Kotlin's shells, JavaScript. */
		"clojure/lang/DynamicClassLoader",
		"org/jruby/util/ClassDefiningJRubyClassLoader",
		"org/jruby/util/OneShotClassLoader",
		"org/jruby/util/NClassClassLoader",
		"org/jruby/ext/ffi/jffi/AsmClassBuilder$JITClassLoader",
		"org/python/core/BytecodeLoader$Loader",
		"org/python/modules/jffi/AsmClassBuilder$JITClassLoader",
		"groovy/lang/GroovyClassLoader$InnerLoader",
		"org/codehaus/groovy/reflection/ClassLoaderForClassArtifacts",
		"org/codehaus/groovy/reflection/SunClassLoader",
		"org/codehaus/groovy/runtime/ProxyGeneratorAdapter$InnerLoader",
		"org/codehaus/groovy/runtime/metaclass/ReflectorLoader",
		"scala/reflect/internal/util/AbstractFileClassLoader",
		"org/jetbrains/kotlin/scripting/compiler/plugin/impl/CompiledScriptClassLoader",
		"org/jetbrains/kotlin/codegen/GeneratedClassLoader",
		"org/mozilla/javascript/DefiningClassLoader",
		"org/mozilla/javascript/SecureCaller$SecureClassLoaderImpl",
		"org/mozilla/javascript/PolicySecurityController$Loader",
		"jdk/nashorn/internal/runtime/NashornLoader",
		"org/openjdk/nashorn/internal/runtime/NashornLoader",
		"jdk/nashorn/internal/runtime/linker/JavaAdapterClassLoader$1",
		"org/openjdk/nashorn/internal/runtime/linker/JavaAdapterClassLoader$1",
		"jdk/nashorn/internal/runtime/linker/JavaAdapterServices$1",
		"org/openjdk/nashorn/internal/runtime/linker/JavaAdapterServices$1",
		/* Compilers of expressions and queries. */
		"org/codehaus/commons/compiler/util/reflect/ByteArrayClassLoader",
		"org/codehaus/janino/JavaSourceClassLoader",
		"org/codehaus/janino/ByteArrayClassLoader",
		"org/mvel2/optimizers/dynamic/DynamicClassLoader",
		"org/mvel2/optimizers/impl/asm/ASMAccessorOptimizer$ContextClassLoader",
		"org/mvel2/util/JITClassLoader",
		"ognl/enhance/EnhancedClassLoader",
		"io/airlift/bytecode/DynamicClassLoader",
		"com/facebook/presto/bytecode/DynamicClassLoader",
		/* Makers of proxies, accessors and serializers. */
		"net/bytebuddy/dynamic/loading/ByteArrayClassLoader",
		"net/bytebuddy/utility/dispatcher/JavaDispatcher$DynamicClassLoader",
		"jnr/ffi/provider/jffi/AsmClassLoader",
		"com/esotericsoftware/reflectasm/AccessClassLoader",
		"com/alibaba/fastjson/util/ASMClassLoader",
		"com/alibaba/fastjson2/util/DynamicClassLoader",
		"sun/reflect/DelegatingClassLoader",
		"jdk/internal/reflect/DelegatingClassLoader",
		"sun/reflect/misc/MethodUtil",
		"com/sun/org/apache/xalan/internal/xsltc/trax/TemplatesImpl$TransletClassLoader",
		"org/apache/xalan/xsltc/trax/TemplatesImpl$TransletClassLoader",
	};

	for (size_t i = 0; i < sizeof(loaders) / sizeof(loaders[0]); i++)
		if (length_of(loaders[i]) == length && same(loader, loaders[i], length))
			return 1;
	return 0;
}

/* Whether a loader, or a class that its class extends, generates what it defines; no code of it is run. Gives the name of
 * its class. */
static int generates(interface tools, interface jni, jobject loader, char *name, size_t room, size_t *name_length)
{
	jobject class = JNI(jni, JNI_GET_OBJECT_CLASS, object_fn)(jni, loader);
	int found = 0;

	*name_length = 0;
	for (int i = 0; class && !found && i < LOADER_SUPERCLASSES; i++) {
		char *signature = 0;
		size_t length;
		jobject above;

		if (JVMTI(tools, JVMTI_GET_CLASS_SIGNATURE, signature_fn)(tools, class, &signature, 0) || !signature)
			break;
		/* "La/B;" */
		length = length_of(signature);
		if (length > 2) {
			found = is_generator(signature + 1, length - 2);
			if (!i && length - 2 <= room)
				*name_length = put_bytes(name, 0, signature + 1, length - 2);
		}
		JVMTI(tools, JVMTI_DEALLOCATE, deallocate_fn)(tools, signature);
		above = JNI(jni, JNI_GET_SUPERCLASS, object_fn)(jni, class);
		JNI(jni, JNI_DELETE_LOCAL_REF, drop_fn)(jni, class);
		class = above;
	}
	return found;
}
