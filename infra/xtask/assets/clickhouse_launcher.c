/* Starts the ClickHouse that is inside libchdb.so: launcher LIBRARY ARGUMENT...
   Does nothing but load the library and pass the arguments on. */
#include <dlfcn.h>
#include <stdio.h>

int main(int argc, char **argv) {
    if (argc < 3) {
        fprintf(stderr, "usage: %s LIBCHDB ARGUMENT...\n", argv[0]);
        return 2;
    }
    void *library = dlopen(argv[1], RTLD_NOW | RTLD_GLOBAL);
    if (!library) {
        fprintf(stderr, "cannot load %s: %s\n", argv[1], dlerror());
        return 1;
    }
    void *(*query)(int, char **) = (void *(*)(int, char **))dlsym(library, "chdb_query_cmdline");
    if (!query) {
        fprintf(stderr, "%s has no chdb_query_cmdline: wrong version\n", argv[1]);
        return 1;
    }
    query(argc - 2, argv + 2);
    /* The query runs until the server is stopped; coming here means that it failed. */
    fprintf(stderr, "the server's query ended\n");
    return 1;
}
