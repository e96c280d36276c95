/* SPDX-License-Identifier: Apache-2.0
 * Where a class came from: the location of its code source, as the JVM's own log of class loading gives it.
 * It must never run outside of the agent's own thread: it asks class loaders, whose locks other threads may hold. */
#pragma once

#define PLACE_MAX_BYTES 2048
#define NAME_MAX_BYTES 3072
/* Local references within one class. */
#define LOCALS_MAX 16
/* Places without a URL of their own. */
static const char RUNTIME_IMAGE[] = "jrt:/";

/* Protection domains whose place is remembered; a jar has one. */
#define DOMAINS 32

enum found { FOUND_PLACE, FOUND_NONE, FOUND_TOO_LONG };

static struct {
	method_id get_domain;
	field_id code_source, location, protocol, file;
	method_id get_resource;
	jobject class_loader;
	method_id get_system_resource;
} ids;

/* Weakly held, so that class loaders can go. */
static struct domain {
	jobject domain;
	size_t length;
	char place[PLACE_MAX_BYTES];
} domains[DOMAINS];
static int last_domain, next_domain;

static int threw(interface jni)
{
	if (!JNI(jni, JNI_EXCEPTION_CHECK, check_fn)(jni))
		return 0;
	JNI(jni, JNI_EXCEPTION_CLEAR, clear_fn)(jni);
	return 1;
}

static jobject find_class(interface jni, const char *name)
{
	jobject class = JNI(jni, JNI_FIND_CLASS, find_class_fn)(jni, name);

	return threw(jni) ? 0 : class;
}

static void *find_id(interface jni, int function, jobject class, const char *name, const char *signature)
{
	void *id = class ? JNI(jni, function, id_fn)(jni, class, name, signature) : 0;

	return threw(jni) ? 0 : id;
}

/* Why it cannot be told where classes come from; 0 if it can. All these classes are loaded in every JVM. */
static const char *find_ids(interface jni)
{
	jobject class = find_class(jni, "java/lang/Class");
	jobject domain = find_class(jni, "java/security/ProtectionDomain");
	jobject source = find_class(jni, "java/security/CodeSource");
	jobject url = find_class(jni, "java/net/URL");
	jobject loader = find_class(jni, "java/lang/ClassLoader");

	/* The native one makes no objects; JDK 25 has only the other. */
	ids.get_domain = find_id(jni, JNI_GET_METHOD_ID, class, "getProtectionDomain0",
				 "()Ljava/security/ProtectionDomain;");
	if (!ids.get_domain)
		ids.get_domain = find_id(jni, JNI_GET_METHOD_ID, class, "getProtectionDomain",
					 "()Ljava/security/ProtectionDomain;");
	ids.code_source = find_id(jni, JNI_GET_FIELD_ID, domain, "codesource", "Ljava/security/CodeSource;");
	ids.location = find_id(jni, JNI_GET_FIELD_ID, source, "location", "Ljava/net/URL;");
	ids.protocol = find_id(jni, JNI_GET_FIELD_ID, url, "protocol", "Ljava/lang/String;");
	ids.file = find_id(jni, JNI_GET_FIELD_ID, url, "file", "Ljava/lang/String;");
	ids.get_resource =
		find_id(jni, JNI_GET_METHOD_ID, loader, "getResource", "(Ljava/lang/String;)Ljava/net/URL;");
	ids.get_system_resource = find_id(jni, JNI_GET_STATIC_METHOD_ID, loader, "getSystemResource",
					  "(Ljava/lang/String;)Ljava/net/URL;");
	ids.class_loader = loader ? JNI(jni, JNI_NEW_GLOBAL_REF, object_fn)(jni, loader) : 0;
	if (!ids.get_domain || !ids.code_source || !ids.location || !ids.protocol || !ids.file)
		return "this JVM's classes do not tell their code source by the fields that are known";
	return 0;
}

/* Appends a string; the new length, or PLACE_MAX_BYTES if there is no room. */
static size_t append(interface jni, jobject string, char *place, size_t at)
{
	jint bytes = JNI(jni, JNI_GET_STRING_UTF_LENGTH, length_fn)(jni, string);

	/* The copy ends with a zero byte. */
	if (bytes < 0 || at + (size_t)bytes + 2 > PLACE_MAX_BYTES)
		return PLACE_MAX_BYTES;
	JNI(jni, JNI_GET_STRING_UTF_REGION, region_fn)
	(jni, string, 0, JNI(jni, JNI_GET_STRING_LENGTH, length_fn)(jni, string), place + at);
	return threw(jni) ? PLACE_MAX_BYTES : at + (size_t)bytes;
}

/* A URL's protocol and file; no method of it is called, since handlers of protocols are the application's. */
static enum found text_of(interface jni, jobject url, char *place, size_t *length)
{
	jobject protocol = JNI(jni, JNI_GET_OBJECT_FIELD, field_fn)(jni, url, ids.protocol);
	jobject file = JNI(jni, JNI_GET_OBJECT_FIELD, field_fn)(jni, url, ids.file);
	size_t at;

	if (!protocol || !file)
		return FOUND_NONE;
	at = append(jni, protocol, place, 0);
	if (at == PLACE_MAX_BYTES)
		return FOUND_TOO_LONG;
	place[at++] = ':';
	at = append(jni, file, place, at);
	if (at == PLACE_MAX_BYTES)
		return FOUND_TOO_LONG;
	/* All modules of the runtime image lie in one file. */
	*length = starts_with(place, at, RUNTIME_IMAGE) ? sizeof(RUNTIME_IMAGE) - 1 : at;
	return FOUND_PLACE;
}

static const struct domain *known(interface jni, jobject domain)
{
	for (int i = 0; i < DOMAINS; i++) {
		/* Classes of one jar come in a row. */
		struct domain *one = &domains[(last_domain + i) % DOMAINS];

		if (one->domain && JNI(jni, JNI_IS_SAME_OBJECT, same_fn)(jni, one->domain, domain)) {
			last_domain = (int)(one - domains);
			return one;
		}
	}
	return 0;
}

static void remember(interface jni, jobject domain, const char *place, size_t length)
{
	struct domain *one = &domains[next_domain];

	if (one->domain)
		JNI(jni, JNI_DELETE_WEAK_GLOBAL_REF, drop_fn)(jni, one->domain);
	one->domain = JNI(jni, JNI_NEW_WEAK_GLOBAL_REF, object_fn)(jni, domain);
	threw(jni);
	one->length = put_bytes(one->place, 0, place, length);
	last_domain = next_domain;
	next_domain = (next_domain + 1) % DOMAINS;
}

static enum found by_code_source(interface jni, jobject class, char *place, size_t *length)
{
	jobject domain = JNI(jni, JNI_CALL_OBJECT_METHOD_A, call_fn)(jni, class, ids.get_domain, 0), at;
	const struct domain *one;
	enum found found;

	if (threw(jni) || !domain)
		return FOUND_NONE;
	one = known(jni, domain);
	if (one) {
		*length = put_bytes(place, 0, one->place, one->length);
		return FOUND_PLACE;
	}
	at = JNI(jni, JNI_GET_OBJECT_FIELD, field_fn)(jni, domain, ids.code_source);
	if (at)
		at = JNI(jni, JNI_GET_OBJECT_FIELD, field_fn)(jni, at, ids.location);
	if (!at)
		return FOUND_NONE;
	found = text_of(jni, at, place, length);
	if (found == FOUND_PLACE) {
		*length = put_real_path(place, *length, PLACE_MAX_BYTES);
		remember(jni, domain, place, *length);
	}
	return found;
}

/* Where the loader would find the class's file, for loaders that give no code source. */
static enum found by_resource(interface jni, jobject loader, const char *name, size_t name_length, char *place,
			      size_t *length)
{
	char resource[NAME_MAX_BYTES + sizeof(".class")];
	jvalue argument;
	jobject url;
	size_t resource_length = put_bytes(resource, 0, name, name_length);
	enum found found;

	resource_length = put_bytes(resource, resource_length, ".class", sizeof(".class")) - 1;
	argument.object = JNI(jni, JNI_NEW_STRING_UTF, string_fn)(jni, resource);
	if (threw(jni) || !argument.object || !ids.get_resource || !ids.get_system_resource)
		return FOUND_NONE;
	if (loader)
		url = JNI(jni, JNI_CALL_OBJECT_METHOD_A, call_fn)(jni, loader, ids.get_resource, &argument);
	else
		url = JNI(jni, JNI_CALL_STATIC_OBJECT_METHOD_A, call_fn)(jni, ids.class_loader,
									 ids.get_system_resource, &argument);
	if (threw(jni) || !url)
		return FOUND_NONE;
	found = text_of(jni, url, place, length);
	if (found == FOUND_PLACE && *length > resource_length &&
	    same(place + *length - resource_length, resource, resource_length))
		*length -= resource_length;
	if (found == FOUND_PLACE)
		*length = put_real_path(place, *length, PLACE_MAX_BYTES);
	return found;
}

/* Packages that only the runtime itself has. */
static int is_of_the_runtime(const char *name, size_t length)
{
	static const char *const prefixes[] = { "java/", "javax/", "jdk/",	"sun/",	    "com/sun/",
						"org/xml/", "org/w3c/", "org/ietf/", "org/jcp/", "org/omg/" };

	for (size_t i = 0; i < sizeof(prefixes) / sizeof(prefixes[0]); i++)
		if (starts_with(name, length, prefixes[i]))
			return 1;
	return 0;
}

/* Names that only generated classes have: asking a loader for their files leads nowhere. */
static int is_generated(const char *name, size_t length)
{
	/* Of the JDK's engines, and of libraries that make classes. */
	static const char *const prefixes[] = { "jdk/internal/reflect/Generated", "sun/reflect/Generated",
						"jdk/nashorn/internal/scripts/", "die/verwandlung/" };
	static const char *const parts[] = { "$$", "$ByteBuddy$", "$MockitoMock$", "$HibernateProxy$" };
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

static enum found place_of(interface jni, jobject class, jobject loader, const char *name, size_t name_length,
			   char *place, size_t *length)
{
	enum found found = loader ? by_code_source(jni, class, place, length) : FOUND_NONE;

	if (!loader && is_of_the_runtime(name, name_length)) {
		*length = put_bytes(place, 0, RUNTIME_IMAGE, sizeof(RUNTIME_IMAGE) - 1);
		return FOUND_PLACE;
	}
	if (found == FOUND_NONE && name_length < NAME_MAX_BYTES && !is_generated(name, name_length))
		found = by_resource(jni, loader, name, name_length, place, length);
	return found;
}
