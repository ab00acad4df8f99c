/* refvit-run: the classes of one picture by a packed model, without Python.

   Exit codes and errors are those of the command refvit: 0 ok, 2 usage, 3 bad input file, 4 not supported here. */
#define _POSIX_C_SOURCE 200809L

#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

#include "refvit.h"

#define USAGE 2
#define BAD_INPUT 3
#define UNSUPPORTED 4
#define ROUNDS 20
#define LINE 512
#define HEADER_MAX 65536 /* bytes of a PPM before its pixels, comments included */

static const char *const imagenet[] = {
#include "imagenet1k.h"
};

static const char help[] =
    "usage: refvit-run [--top K] [--threads N] [--json] [--bench] [--read] MODEL PICTURE\n\n"
    "Name what a picture shows.\n\n"
    "  MODEL        a packed file, as refvit pack writes it\n"
    "  PICTURE      binary PPM (P6, 8 bits) or raw RGB, of the model's img_size after resize and crop\n"
    "  --top K      how many classes to name (default 5)\n"
    "  --threads N  default: REFVIT_THREADS, or all processors\n"
    "  --json       print one JSON object on stdout\n"
    "  --bench      print only time and memory: the median of 20 runs, and the peak of the process\n"
    "  --read       read MODEL instead of mapping it: nobody can then cut it off while it is used\n\n"
    "REFVIT_BACKEND chooses the kernels.\n\n"
    "example:\n  refvit preprocess model.refvit.safetensors cat.jpg -o cat.ppm && refvit-run model.refvit.safetensors cat.ppm\n";

struct options {
    const char *model, *picture;
    size_t top, threads;
    int json, bench, how;
};

static void die(int code, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    fputs("refvit-run: error: ", stderr);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    va_end(arguments);
    exit(code);
}

static size_t count_of(const char *what, const char *text)
{
    char *end;
    const unsigned long value = text && *text >= '0' && *text <= '9' ? strtoul(text, &end, 10) : 0;
    if (value < 1 || *end || value > 1ul << 20)
        die(USAGE, "%s; expected an integer of at least 1, got '%s'", what, text ? text : "");
    return value;
}

static long processors(void)
{
#if defined(REFVIT_NO_THREADS)
    return 1;
#else
    return sysconf(_SC_NPROCESSORS_ONLN);
#endif
}

static struct options options_of(int count, char **arguments)
{
    struct options o = {.top = 5, .how = REFVIT_MAP};
    const char *threads = getenv("REFVIT_THREADS");
    const char **places[] = {&o.model, &o.picture};
    size_t given = 0;
    for (int i = 1; i < count; i++) {
        const char *a = arguments[i], *next = i + 1 < count ? arguments[i + 1] : NULL;
        if (!strcmp(a, "--help"))
            exit(fputs(help, stdout) < 0 ? BAD_INPUT : 0);
        else if (!strcmp(a, "--json"))
            o.json = 1;
        else if (!strcmp(a, "--bench"))
            o.bench = 1;
        else if (!strcmp(a, "--read"))
            o.how = REFVIT_READ;
        else if (!strcmp(a, "--top"))
            o.top = count_of(a, next), i++;
        else if (!strcmp(a, "--threads"))
            o.threads = count_of(a, next), i++;
        else if (*a == '-' || given == 2)
            die(USAGE, "unrecognized argument: %s; try refvit-run --help", a);
        else
            *places[given++] = a;
    }
    if (given < 2)
        die(USAGE, "expected MODEL PICTURE; try refvit-run --help");
    if (!o.threads) {
        const long online = processors();
        o.threads = threads ? count_of("REFVIT_THREADS", threads) : online > 0 ? (size_t)online : 1;
    }
    return o;
}

/* As for refvit, REFVIT_BACKEND chooses the kernels. */
static void choose_backend(struct refvit *model)
{
    const char *name = getenv("REFVIT_BACKEND");
    const int usable = refvit_init();
    int backend = 0;
    while (name && usable >> backend && (!(usable >> backend & 1) || strcmp(name, refvit_backend_name(backend))))
        backend++;
    if (name && refvit_use_backend(model, backend))
        die(USAGE, "REFVIT_BACKEND; expected kernels that are usable here, got '%s'; try refvit backends", name);
}

static void *room_for(size_t bytes)
{
    void *room = NULL;
    if (posix_memalign(&room, REFVIT_ALIGN, bytes ? bytes : 1))
        die(BAD_INPUT, "not enough memory");
    return room;
}

/* The next number of a PPM's header, after white space and comments; 0 where there is none. */
static size_t header_number(const uint8_t **at, const uint8_t *end)
{
    size_t value = 0;
    while (*at < end && (strchr(" \t\n\v\f\r", **at) || **at == '#')) {
        const int comment = **at == '#';
        while (comment && *at < end && **at != '\n')
            ++*at;
        *at += *at < end;
    }
    for (; *at < end && **at >= '0' && **at <= '9' && value < 1u << 20; ++*at)
        value = value * 10 + (size_t)(**at - '0');
    return value;
}

/* The pixels [side][side][3] of a PPM or of raw bytes. */
static const uint8_t *pixels_of(const char *path, const char *model, size_t side)
{
    const size_t wanted = side * side * 3, most = wanted + HEADER_MAX;
    uint8_t *bytes = room_for(most + 1);
    FILE *file = fopen(path, "rb");
    if (!file)
        die(BAD_INPUT, "%s: cannot be read: %s", path, strerror(errno));
    const size_t got = fread(bytes, 1, most + 1, file);
    if (ferror(file))
        die(BAD_INPUT, "%s: cannot be read: %s", path, strerror(errno));
    fclose(file);
    if (got == wanted)
        return bytes;
    const uint8_t *at = bytes + 2, *end = bytes + got;
    const int is_ppm = got > 2 && !memcmp(bytes, "P6", 2);
    const size_t width = is_ppm ? header_number(&at, end) : 0, height = is_ppm ? header_number(&at, end) : 0;
    const size_t largest = is_ppm ? header_number(&at, end) : 0;
    char form[96] = "no PPM";
    if (is_ppm)
        snprintf(form, sizeof form, "a PPM of %zu x %zu, up to %zu", width, height, largest);
    if (!is_ppm || width != side || height != side || largest != 255 || (size_t)(end - at) != wanted + 1)
        die(BAD_INPUT, "%s: not a picture for this model; expected binary PPM (P6, 8 bits) or raw RGB of %zu x %zu pixels, got "
            "%zu bytes, %s; try refvit preprocess %s PICTURE -o picture.ppm", path, side, side, got, form, model);
    return at + 1;
}

static double now_ms(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec * 1e3 + (double)time.tv_nsec * 1e-6;
}

static int by_size(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void print_string(const char *text)
{
    putchar('"');
    for (; *text; text++)
        printf(*text == '"' || *text == '\\' ? "\\%c" : (unsigned char)*text < 0x20 ? "\\u%04x" : "%c", *text);
    putchar('"');
}

/* What Linux tells of a name in one of its files, or NULL. */
static const char *told(const char *path, const char *name, char *line, int size)
{
    FILE *file = fopen(path, "r");
    const char *found = NULL;
    while (file && !found && fgets(line, size, file))
        found = !strncmp(line, name, strlen(name)) ? strchr(line, ':') : NULL;
    if (file)
        fclose(file);
    line[found ? strcspn(line, "\n") : 0] = '\0';
    return found ? found + 1 + strspn(found + 1, " \t") : NULL;
}

/* The most memory that this process had at once. ru_maxrss begins with what the parent had. */
static double peak_mb(void)
{
    char line[LINE];
    struct rusage usage;
    const char *peak = told("/proc/self/status", "VmHWM", line, sizeof line);
    getrusage(RUSAGE_SELF, &usage);
    return (peak ? strtod(peak, NULL) : (double)usage.ru_maxrss) / 1024;
}

/* The CPU's name; or the machine's, on ARM with the number of the CPU's kind. */
static void name_cpu(char *name, size_t size)
{
    char line[LINE];
    struct utsname system;
    const char *model = told("/proc/cpuinfo", "model name", line, sizeof line);
    const char *part = model ? NULL : told("/proc/cpuinfo", "CPU part", line, sizeof line);
    if (model || uname(&system) < 0)
        snprintf(name, size, "%s", model ? model : "unknown CPU");
    else
        snprintf(name, size, part ? "%s, CPU part %s" : "%s", system.machine, part);
}

static void print_bench(const struct options *o, const struct refvit *model, double *times)
{
    char cpu[LINE];
    const double mb = peak_mb();
    name_cpu(cpu, sizeof cpu);
    const char *kernel = refvit_backend_name(refvit_backend_of(model));
    qsort(times, ROUNDS, sizeof *times, by_size);
    if (!o->json) {
        printf("%.2f ms, %.1f MB, threads %zu, %s, %s\n", times[ROUNDS / 2], mb, o->threads, kernel, cpu);
        return;
    }
    printf("{\"ms\": %.3f, \"mb\": %.1f, \"threads\": %zu, \"kernel\": \"%s\", \"cpu\": ", times[ROUNDS / 2], mb, o->threads, kernel);
    print_string(cpu);
    puts("}");
}

/* The largest logit that is not taken yet, the lowest index first among equals (N11). */
static size_t next_class(size_t classes, const float *logits, const char *taken)
{
    size_t best = classes;
    for (size_t i = 0; i < classes; i++)
        if (!taken[i] && (best == classes || logits[i] > logits[best]))
            best = i;
    return best;
}

static void print_classes(const struct options *o, const struct refvit *model, const struct refvit_info *info, const float *logits)
{
    char *taken = memset(room_for(info->classes), 0, info->classes);
    const size_t top = next_class(info->classes, logits, taken);
    double sum = 0.0;
    for (size_t i = 0; i < info->classes; i++)
        sum += exp((double)(logits[i] - logits[top]));
    if (o->json) {
        printf("{\"model\": "), print_string(info->name);
        printf(", \"pictures\": [{\"picture\": "), print_string(o->picture), printf(", \"classes\": [");
    } else {
        puts(o->picture);
    }
    for (size_t n = 0; n < o->top && n < info->classes; n++) {
        const size_t i = next_class(info->classes, logits, taken);
        const char *label = info->label_set ? imagenet[i] : refvit_label(model, i);
        const double p = exp((double)(logits[i] - logits[top])) / sum;
        taken[i] = 1;
        if (o->json) {
            printf("%s{\"index\": %zu, \"label\": ", n ? ", " : "", i);
            label ? print_string(label) : (void)fputs("null", stdout);
            printf(", \"logit\": %.17g, \"probability\": %.17g}", (double)logits[i], p);
        } else {
            printf("  %6.2f %%  %5zu%s%s\n", 100.0 * p, i, label ? "  " : "", label ? label : "");
        }
    }
    if (o->json)
        puts("]}]}");
}

/* Apart from main, where compilers would make vectors ready for it before it is known that the CPU has any. */
__attribute__((noinline)) static int classify(int count, char **arguments)
{
    const struct options o = options_of(count, arguments);
    char message[REFVIT_MESSAGE_BYTES];
    struct refvit *model;
    struct refvit_info info;
    double times[ROUNDS];
    int status = refvit_open_file(o.model, o.how, &model, message);
    if (status)
        die(status == REFVIT_UNSUPPORTED ? UNSUPPORTED : BAD_INPUT, "%s: %s", o.model, message);
    choose_backend(model);
    refvit_query(model, &info);
    if (info.channels != 3)
        die(UNSUPPORTED, "%s: a model of pictures; expected 3 channels, got %zu", o.model, info.channels);
    const uint8_t *pixels = pixels_of(o.picture, o.model, info.img_size);
    struct refvit_pool *pool = refvit_pool_new(o.threads);
    if (!pool)
        die(USAGE, "--threads; expected as many as the system gives, got %zu", o.threads);
    const size_t size = refvit_run_size(model, o.threads);
    void *work = room_for(size);
    float *logits = room_for(info.classes * sizeof *logits);
    for (int i = 0; i < (o.bench ? ROUNDS : 1) && !status; i++) {
        times[i] = now_ms();
        status = refvit_run_pixels(model, pool, 1, pixels, logits, work, size);
        times[i] = now_ms() - times[i];
    }
    if (status)
        die(BAD_INPUT, "%s: %s", o.model, refvit_status_text(status));
    if (o.bench)
        print_bench(&o, model, times);
    else
        print_classes(&o, model, &info, logits);
    if (fflush(stdout) || ferror(stdout))
        die(BAD_INPUT, "output: cannot be written: %s", strerror(errno));
    refvit_pool_free(pool);
    refvit_close(model);
    return 0;
}

int main(int count, char **arguments)
{
    if (!refvit_init())
        die(UNSUPPORTED, "not supported here: a CPU without SSE2");
    return classify(count, arguments);
}
