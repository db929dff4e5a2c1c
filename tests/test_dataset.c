/* The data set: what is in each layout, in which order it comes, who gets what, what is broken, and that a
 * position restored goes on with the sample that would have come. */
#include "tests/scratch.h"

#include "ref/image.h"
#include "ref/train/augment.h"
#include "ref/train/dataset.h"
#include "ref/train/keyed.h"
#include "weights/file.h"
#include "weights/safetensors.h"

#include <sys/resource.h>

#define SETS "golden/data/dataset/"
enum { COUNT = 7 }; /* samples of the small sets; their pictures are told apart by their captions */

/* ---- helpers ---------------------------------------------------------------------------------------------- */

typedef struct Log {
    int lines;
    char text[8192];
} Log;

static void keep_line(void *self, const char *line) {
    Log *log = self;
    log->lines++;
    assert_true(strlen(log->text) + strlen(line) + 2 < sizeof log->text);
    strcat(log->text, line);
    strcat(log->text, "\n");
}

static Dataset *must_open(const DatasetOptions *o) {
    Error err = {0};
    Dataset *d = dataset_open(o, &err);
    if (!d) fail_msg("%s", err.message);
    return d;
}

/* Which sample it is: "picture 3, ..." */
static int number_of(const Sample *s) {
    int i = -1;
    sscanf(s->caption, "picture %d", &i);
    return i;
}

static int must_next(Dataset *d, Sample *s) {
    Error err = {0};
    int status = dataset_next(d, s, &err);
    if (status < 0) fail_msg("%s", err.message);
    return status;
}

/* The next sample's number; -1: the end of the epoch. */
static int draw(Dataset *d) {
    Sample s;
    if (!must_next(d, &s)) return -1;
    int i = number_of(&s);
    sample_free(&s);
    return i;
}

/* The numbers of an epoch, [0 .. n - 1] each once; returns them as one number in base 8. */
static uint64_t draw_epoch(Dataset *d, int n) {
    uint64_t order = 0;
    unsigned seen = 0;
    for (int i, k = 0;; k++) {
        if ((i = draw(d)) < 0) break;
        assert_true(i < n && !(seen >> i & 1));
        seen |= 1u << i;
        order = order * 8 + (uint64_t)i;
    }
    assert_int_equal(seen, (1u << n) - 1);
    return order;
}

static void expect_refused(const char *dir, const char *message) {
    Error err = {0};
    DatasetOptions o = {.dir = dir};
    assert_null(dataset_open(&o, &err));
    assert_error(&err, message);
}

static void make_dir(const char *name) { assert_int_equal(mkdir(scratch(name), 0777), 0); }

static void copy_file(const char *from, const char *to) {
    size_t size;
    Error err = {0};
    char *bytes = file_read(from, &size, &err);
    if (!bytes) fail_msg("%s", err.message);
    write_bytes(to, bytes, size);
    free(bytes);
}

static const char *const layouts[] = {SETS "folder", SETS "texts", SETS "shards"};
enum { LAYOUTS = 3 };

/* ---- what is in them -------------------------------------------------------------------------------------- */

static void every_layout_has_the_same_samples(void **state) {
    (void)state;
    Error err = {0};
    Safetensors *truth = safetensors_open(SETS "set.safetensors", &err);
    assert_non_null(truth);
    for (int l = 0; l < LAYOUTS; l++) {
        Dataset *d = must_open(&(DatasetOptions){.dir = layouts[l], .seed = 1});
        assert_int_equal(dataset_count(d), l == 2 ? -1 : COUNT);
        Sample s;
        int64_t samples = 0;
        while (must_next(d, &s)) {
            char name[32], caption[64];
            const int i = number_of(&s);
            snprintf(name, sizeof name, "pair.%d", i);
            snprintf(caption, sizeof caption, "picture %d, \xc3\xa9\xe4\xb8\xad", i);
            const StoredTensor *t = safetensors_find(truth, name);
            assert_non_null(t);
            assert_string_equal(s.caption, caption);
            assert_int_equal(s.height, t->dim[0]);
            assert_int_equal(s.width, t->dim[1]);
            assert_memory_equal(s.rgb, t->data, t->bytes);
            assert_int_equal(s.index, samples++);
            if (l == 2)
                snprintf(name, sizeof name, "%05d.tar:%06d", i / 3, i);
            else if (l == 1)
                snprintf(name, sizeof name, "%c/%d.x.%s", i % 3 ? 'b' : 'a', i,
                         i % 2 ? "JPG" : "PNG");
            else
                snprintf(name, sizeof name, "%s%d.%s", i > 4 ? "sub/" : "", i,
                         i % 2 ? "jpg" : "png");
            assert_string_equal(s.id, name);
            sample_free(&s);
        }
        assert_int_equal(samples, COUNT);
        assert_int_equal(dataset_epoch(d), 1);
        assert_int_equal(dataset_bad(d), 0);
        dataset_close(d);
    }
    safetensors_close(truth);
    Dataset *d =
        must_open(&(DatasetOptions){.dir = SETS "split"}); /* in train/; a BOM, blank lines */
    assert_int_equal(dataset_count(d), 3);
    draw_epoch(d, 3);
    dataset_close(d);
}

/* ---- order ------------------------------------------------------------------------------------------------ */

static void order_depends_on_seed_and_epoch_alone(void **state) {
    (void)state;
    for (int l = 0; l < LAYOUTS; l++) {
        uint64_t order[3][6];
        for (int run = 0; run < 3; run++) {
            Dataset *d = must_open(
                &(DatasetOptions){.dir = layouts[l], .seed = run == 2 ? 8 : 7, .buffer = 4});
            for (int e = 0; e < 6; e++) {
                order[run][e] = draw_epoch(d, COUNT);
                for (int before = 0; before < e; before++)
                    assert_true(order[run][e] != order[run][before]);
            }
            dataset_close(d);
        }
        assert_memory_equal(order[0], order[1], sizeof order[0]);
        assert_true(memcmp(order[0], order[2], sizeof order[0]) != 0);
    }
}

/* Without a buffer a shard's samples come as they stand in it, the shards in any order. */
static void a_buffer_of_one_shuffles_shards_alone(void **state) {
    (void)state;
    unsigned firsts = 0;
    for (uint64_t seed = 0; seed < 20; seed++) {
        Dataset *d = must_open(&(DatasetOptions){.dir = SETS "shards", .seed = seed, .buffer = 1});
        for (int i, last = -1, k = 0; (i = draw(d)) >= 0; last = i, k++) {
            if (k == 0) firsts |= 1u << i;
            assert_true(i == last + 1 || i % 3 == 0);
        }
        dataset_close(d);
    }
    assert_int_equal(firsts, 1 << 0 | 1 << 3 | 1 << 6);
    /* and so does one that holds a sample's bytes only */
    uint64_t order[2];
    for (int k = 0; k < 2; k++) {
        Dataset *d = must_open(&(DatasetOptions){
            .dir = SETS "shards", .seed = 3, .buffer = k ? 1 : 100, .buffer_bytes = k ? 0 : 1});
        order[k] = draw_epoch(d, COUNT);
        dataset_close(d);
    }
    assert_true(order[0] == order[1]);
}

/* A buffer that holds all three of a shard: each of the six orders as often, 100 of 600 with a deviation
 * of 9. And one that holds some bytes is full again after each draw. */
static void the_buffer_shuffles(void **state) {
    (void)state;
    int count[512] = {0}, orders = 0;
    char dir[128];
    make_dir("one");
    strcpy(dir, scratch("one"));
    copy_file(SETS "shards/00000.tar", scratch("one/0.tar"));
    Dataset *d = must_open(&(DatasetOptions){.dir = dir, .seed = 9});
    for (int epoch = 0; epoch < 600; epoch++) count[draw_epoch(d, 3)]++;
    dataset_close(d);
    for (int i = 0; i < 512; i++) {
        orders += count[i] > 0;
        if (count[i]) assert_in_range(count[i], 60, 140);
    }
    assert_int_equal(orders, 6);
    scratch_entries(dir, true);
    rmdir(dir);

    size_t size[5];
    d = must_open(&(DatasetOptions){.dir = SETS "shards", .buffer_bytes = 2500});
    for (int i = 0; i < 4; i++) {
        Error err = {0};
        void *bytes;
        draw(d);
        assert_int_equal(dataset_save(d, &bytes, &size[i], &err), 0);
        assert_true(size[i] + 16 >= size[0]);
        free(bytes);
    }
    assert_true(size[0] > 128); /* some wait */
    dataset_close(d);
}

/* Each sample as often at each place: 1000 of 7000 expected, with a deviation of 29. */
static void no_place_is_preferred(void **state) {
    (void)state;
    int count[COUNT][COUNT] = {{0}}, follows[COUNT][COUNT] = {{0}};
    for (uint64_t epoch = 0; epoch < 7000; epoch++) {
        const uint64_t key = keyed_bits(42, DRAW_ORDER, epoch, 0);
        unsigned seen = 0;
        for (uint64_t i = 0, last = 0; i < COUNT; i++) {
            const uint64_t j = keyed_permute(key, COUNT, i);
            assert_true(j < COUNT && !(seen >> j & 1));
            seen |= 1u << j;
            count[i][j]++;
            if (i) follows[last][j]++;
            last = j;
        }
    }
    for (int i = 0; i < COUNT; i++)
        for (int j = 0; j < COUNT; j++) {
            assert_in_range(count[i][j], 860, 1140);
            if (i != j) assert_in_range(follows[i][j], 860, 1140);
        }
    static const uint64_t sizes[] = {1, 2, 255, 256, 257, 1000, 70000};
    for (size_t k = 0; k < sizeof sizes / sizeof sizes[0]; k++) {
        const uint64_t n = sizes[k];
        uint8_t *seen = calloc(n, 1);
        for (uint64_t i = 0; i < n; i++) seen[keyed_permute(5, n, i)]++;
        for (uint64_t i = 0; i < n; i++) assert_int_equal(seen[i], 1);
        free(seen);
    }
    for (uint64_t i = 0; i < 1000; i++) assert_true(keyed_below(1, DRAW_CROP, i, 0, 3) < 3);
}

#ifndef __SANITIZE_ADDRESS__
static long peak_memory(void) { /* in KB */
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return usage.ru_maxrss;
}

/* 200,000 lines take 8 bytes each (twice that while the list grows), and their order nothing. */
static void a_large_set_takes_a_small_list(void **state) {
    (void)state;
    enum { LINES = 200000 };
    char dir[128];
    make_dir("large");
    strcpy(dir, scratch("large"));
    copy_file(SETS "folder/0.png", scratch("large/0.png"));
    FILE *file = fopen(scratch("large/metadata.jsonl"), "wb");
    assert_non_null(file);
    for (int i = 0; i < LINES; i++)
        fprintf(file, "{\"file_name\": \"0.png\", \"text\": \"%d, a caption of some words\"}\n", i);
    assert_int_equal(fclose(file), 0);
    const long before = peak_memory();
    uint8_t *seen = calloc(LINES, 1);
    Dataset *d = must_open(&(DatasetOptions){.dir = dir});
    assert_int_equal(dataset_count(d), LINES);
    int first_half = 0;
    for (int i = 0; i < 2000; i++) {
        Sample s;
        assert_int_equal(must_next(d, &s), 1);
        const int line = atoi(s.caption);
        assert_false(seen[line]);
        seen[line] = 1;
        first_half += line < LINES / 2;
        sample_free(&s);
    }
    assert_in_range(first_half, 850, 1150);
    assert_true(peak_memory() - before < 24 * LINES / 1024 + 1024);
    dataset_close(d);
    free(seen);
    scratch_entries(dir, true);
    rmdir(dir);
}
#endif

/* ---- ranks ------------------------------------------------------------------------------------------------ */

/* Together they see what one sees, in its order, over the ends of epochs, with broken samples between. */
static void ranks_share_one_order(void **state) {
    (void)state;
    char broken[128];
    strcpy(broken, scratch("ranks"));
    make_dir("ranks");
    for (int i = 0; i < COUNT; i++) {
        char from[128], to[128];
        snprintf(from, sizeof from, SETS "folder/%s%d.%s", i > 4 ? "sub/" : "", i,
                 i % 2 ? "jpg" : "png");
        snprintf(to, sizeof to, "ranks/%d.%s", i, i % 2 ? "jpg" : "png");
        copy_file(from, scratch(to));
        snprintf(to, sizeof to, "ranks/%d.txt", i);
        char text[32];
        snprintf(text, sizeof text, "picture %d", i);
        if (i != 2) write_text(scratch(to), text);
    }
    write_text(scratch("ranks/5.jpg"), "no picture");
    for (int l = 0; l < LAYOUTS + 1; l++)
        for (int ranks = 1; ranks <= 3; ranks++) {
            DatasetOptions o = {.dir = l < LAYOUTS ? layouts[l] : broken,
                                .seed = 5,
                                .buffer = 3,
                                .max_bad_samples = 2};
            Dataset *one = must_open(&o), *part[3];
            o.ranks = ranks;
            for (o.rank = 0; o.rank < ranks; o.rank++) part[o.rank] = must_open(&o);
            for (int64_t index = 0; index < 5 * COUNT; index++) {
                Sample a, b;
                while (!must_next(one, &a)) {}
                while (!must_next(part[index % ranks], &b)) {}
                assert_int_equal(a.index, index);
                assert_int_equal(b.index, index);
                assert_string_equal(a.id, b.id);
                sample_free(&a);
                sample_free(&b);
            }
            for (int r = 0; r < ranks; r++) dataset_close(part[r]);
            assert_int_equal(dataset_bad(one), l < LAYOUTS ? 0 : 2);
            dataset_close(one);
        }
    scratch_entries(scratch("ranks"), true);
    rmdir(scratch("ranks"));
}

/* ---- the position ----------------------------------------------------------------------------------------- */

static Dataset *restored(const DatasetOptions *o, const void *bytes, size_t size) {
    Error err = {0};
    Dataset *d = must_open(o);
    if (dataset_restore(d, bytes, size, &err)) fail_msg("%s", err.message);
    return d;
}

static void same_from_here(Dataset *a, Dataset *b, int calls) {
    for (int i = 0; i < calls; i++) {
        Sample x, y;
        int more = must_next(a, &x);
        assert_int_equal(more, must_next(b, &y));
        assert_int_equal(dataset_epoch(a), dataset_epoch(b));
        if (!more) continue;
        assert_string_equal(x.id, y.id);
        assert_string_equal(x.caption, y.caption);
        assert_int_equal(x.index, y.index);
        assert_memory_equal(x.rgb, y.rgb, (size_t)(x.width * x.height * 3));
        sample_free(&x);
        sample_free(&y);
    }
}

/* After every call, epochs' ends among them: one goes on, the other is restored; saved again at once, it is
 * the same position. */
static void restoring_goes_on_with_the_next_sample(void **state) {
    (void)state;
    for (int l = 0; l < LAYOUTS; l++)
        for (int buffer = 1; buffer <= 9; buffer += 4)
            for (int calls = 0; calls < 3 * (COUNT + 1); calls++) {
                DatasetOptions o = {.dir = layouts[l], .seed = 11, .buffer = buffer};
                Error err = {0};
                void *bytes, *again;
                size_t size, again_size;
                Dataset *d = must_open(&o);
                for (int i = 0; i < calls; i++) draw(d);
                assert_int_equal(dataset_save(d, &bytes, &size, &err), 0);
                Dataset *r = restored(&o, bytes, size);
                assert_int_equal(dataset_save(r, &again, &again_size, &err), 0);
                assert_int_equal(size, again_size);
                assert_memory_equal(bytes, again, size);
                same_from_here(d, r, 2 * (COUNT + 1) + 3);
                dataset_close(d);
                dataset_close(r);
                free(bytes);
                free(again);
            }
}

/* Rank 0's position is everybody's, and another number of ranks may go on from it. */
static void one_rank_saves_for_all(void **state) {
    (void)state;
    for (int l = 0; l < LAYOUTS; l++)
        for (int steps = 0; steps < 9; steps++)
            for (int64_t ranks = 1; ranks <= 4; ranks++) {
                DatasetOptions o = {.dir = layouts[l], .seed = 2, .buffer = 3, .ranks = 2};
                Error err = {0};
                void *bytes;
                size_t size;
                Sample s;
                Dataset *d = must_open(&o);
                for (int i = 0; i < steps; i++) {
                    while (!must_next(d, &s)) {}
                    sample_free(&s);
                }
                assert_int_equal(dataset_save(d, &bytes, &size, &err), 0);
                dataset_close(d);
                o.ranks = ranks;
                for (o.rank = 0; o.rank < ranks; o.rank++) {
                    d = restored(&o, bytes, size);
                    for (int round = 0; round < 6; round++) {
                        while (!must_next(d, &s)) {}
                        assert_int_equal(s.index, 2 * steps + round * ranks + o.rank);
                        sample_free(&s);
                    }
                    dataset_close(d);
                }
                free(bytes);
            }
}

static void refuse_position(const DatasetOptions *o, const void *bytes, size_t size,
                            const char *message) {
    Error err = {0};
    Dataset *d = must_open(o);
    assert_int_equal(dataset_restore(d, bytes, size, &err), -1);
    assert_error(&err, message);
    dataset_close(d);
}

static void other_positions_are_refused(void **state) {
    (void)state;
    for (int l = 0; l < LAYOUTS; l++) {
        DatasetOptions o = {.dir = layouts[l], .seed = 11, .buffer = 3};
        Error err = {0};
        unsigned char *bytes;
        void *saved;
        size_t size;
        Dataset *d = must_open(&o);
        for (int i = 0; i < 4; i++) draw(d);
        assert_int_equal(dataset_save(d, &saved, &size, &err), 0);
        bytes = saved;
        dataset_close(d);
        for (size_t i = 0; i < size; i++) {
            bytes[i] ^= (unsigned char)(1 << i % 8);
            refuse_position(&o, bytes, size, "the position in the data set is damaged");
            bytes[i] ^= (unsigned char)(1 << i % 8);
        }
        for (size_t cut = 0; cut < size; cut += 4)
            refuse_position(&o, bytes, cut, "the position in the data set is damaged");
        char message[256];
        DatasetOptions other = o;
        other.seed = 12;
        snprintf(message, sizeof message,
                 "%s: the position was saved with seed 11: expected it, found 12", layouts[l]);
        refuse_position(&other, bytes, size, message);
        other = o;
        other.dir = layouts[(l + 1) % LAYOUTS];
        snprintf(message, sizeof message,
                 "%s: not the data set that the position was saved with: its files have changed",
                 other.dir);
        refuse_position(&other, bytes, size, message);
        if (l == 2) {
            other = o;
            other.buffer = 4;
            refuse_position(&other, bytes, size,
                            SETS "shards: the position was saved with a buffer of 3 samples, "
                                 "268435456 bytes: expected it, found 4, 268435456");
        }
        free(saved);
    }
}

/* ---- what is broken --------------------------------------------------------------------------------------- */

static void no_set_at_all(void **state) {
    (void)state;
    expect_refused(scratch("absent"), "absent: can't be opened: No such file or directory");
    make_dir("none");
    expect_refused(scratch("none"),
                   "none: no data set: expected metadata.jsonl, .tar shards, or pictures (.jpg, "
                   ".jpeg, .png) with .txt captions");
    copy_file(SETS "folder/0.png", scratch("none/0.png"));
    expect_refused(scratch("none"),
                   "none: no captions for its 1 pictures: expected metadata.jsonl, or "
                   "a .txt of the same name beside each");
    write_text(scratch("none/metadata.csv"), "file_name,text\n");
    expect_refused(
        scratch("none"),
        "none/metadata.csv: not read: expected metadata.jsonl, with {\"file_name\": ..., "
        "\"text\": ...} in each line");
    write_text(scratch("none/metadata.jsonl"), "\n \r\n\t\n");
    expect_refused(scratch("none"), "none/metadata.jsonl: no samples");
    write_text(scratch("none/metadata.jsonl"), "{\"file_name\": \"0.png\", \"label\": 1}");
    expect_refused(scratch("none"),
                   "none/metadata.jsonl: no captions: expected \"text\" (or \"caption\") beside "
                   "\"file_name\", found neither in its line");
    copy_file(SETS "shards/00000.tar", scratch("none/0.tar"));
    expect_refused(scratch("none"),
                   "none: it holds both metadata.jsonl and .tar shards: expected one "
                   "of them");
    Error err = {0};
    DatasetOptions o = {.dir = SETS "folder", .rank = 2, .ranks = 2};
    assert_null(dataset_open(&o, &err));
    assert_error(&err, "data set: rank 2 of 2");
    scratch_entries(scratch("none"), true);
    rmdir(scratch("none"));
}

/* Two whole samples among all kinds of broken ones; told once each, though there are three epochs. */
static void broken_lines_are_named_once(void **state) {
    (void)state;
    static const char *const lines[] = {
        "{\"file_name\": \"0.png\", \"text\": [\"picture 0, one way\", \"picture 0, another\"]}",
        "{\"file_name\": \"0.png\", \"text\": null, \"caption\": \"picture 1\"}",
        "not JSON",
        "[1]",
        "{\"file_name\": \"0.png\"}",
        "{\"file_name\": \"0.png\", \"text\": 3}",
        "{\"file_name\": \"0.png\", \"text\": []}",
        "{\"file_name\": 7, \"text\": \"a\"}",
        "{\"text\": \"a\"}",
        "{\"file_name\": \"../set/0.png\", \"text\": \"a\"}",
        "{\"file_name\": \"/etc/passwd\", \"text\": \"a\"}",
        "{\"file_name\": \"a/../../0.png\", \"text\": \"a\"}",
        "{\"file_name\": \"\", \"text\": \"a\"}",
        "{\"file_name\": \"a/..\", \"text\": \"a\"}",
        "{\"file_name\": \"absent.png\", \"text\": \"a\"}",
        "{\"file_name\": \"cut.jpg\", \"text\": \"a\"}",
        "{\"file_name\": \"metadata.jsonl\", \"text\": \"a\"}",
        "{\"file_name\": \".\", \"text\": \"a\"}",
        "{\"file_name\": \"0.png\", \"text\": \"\xff\"}",
    };
    static const char *const named[] = {"line at byte 138: not JSON",
                                        "expected a JSON object",
                                        "no caption: expected a string as \"text\" or \"caption\"",
                                        "expected a string as \"file_name\"",
                                        "\"../set/0.png\" leads out of the folder",
                                        "\"/etc/passwd\" leads out of the folder",
                                        "\"a/../../0.png\" leads out of the folder",
                                        "\"\" leads out of the folder",
                                        "\"a/..\" leads out of the folder",
                                        "absent.png: can't be opened: No such file or directory",
                                        "cut.jpg: the file ends too early",
                                        "metadata.jsonl: neither a PNG nor a JPEG",
                                        "it is a directory, not a file",
                                        "not valid UTF-8"};
    enum { LINES = sizeof lines / sizeof lines[0], BROKEN = LINES - 2 };
    char text[4096] = "";
    for (int i = 0; i < LINES; i++) sprintf(text + strlen(text), "%s\n", lines[i]);
    make_dir("set");
    copy_file(SETS "folder/0.png", scratch("set/0.png"));
    size_t size;
    Error err = {0};
    char *bytes = file_read(SETS "folder/1.jpg", &size, &err);
    write_bytes(scratch("set/cut.jpg"), bytes, size / 2);
    free(bytes);
    write_text(scratch("set/metadata.jsonl"), text);

    Log log = {0};
    char dir[128];
    strcpy(dir, scratch("set"));
    DatasetOptions o = {.dir = dir, .max_bad_samples = BROKEN, .log = keep_line, .log_self = &log};
    Dataset *d = must_open(&o);
    bool one_way = false, another = false;
    for (int epoch = 0; epoch < 20; epoch++) {
        Sample s;
        int samples = 0;
        for (; must_next(d, &s); samples++) {
            one_way |= strstr(s.caption, "one way") != NULL;
            another |= strstr(s.caption, "another") != NULL;
            sample_free(&s);
        }
        assert_int_equal(samples, 2);
    }
    assert_true(one_way && another);
    assert_int_equal(dataset_bad(d), BROKEN);
    assert_int_equal(log.lines, BROKEN);
    for (size_t i = 0; i < sizeof named / sizeof named[0]; i++)
        if (!strstr(log.text, named[i])) fail_msg("no \"%s\" in\n%s", named[i], log.text);

    void *saved; /* and stay known in a checkpoint */
    assert_int_equal(dataset_save(d, &saved, &size, &err), 0);
    dataset_close(d);
    d = restored(&o, saved, size);
    draw_epoch(d, 2);
    assert_int_equal(dataset_bad(d), BROKEN);
    assert_int_equal(log.lines, BROKEN);
    dataset_close(d);
    free(saved);

    o.max_bad_samples = 3;
    o.log = NULL;
    for (int ranks = 1; ranks < 3; ranks++) { /* all give up at the same sample */
        Sample s;
        o.ranks = ranks;
        o.rank = ranks - 1;
        d = must_open(&o);
        int status;
        err = (Error){0};
        while ((status = dataset_next(d, &s, &err)) > 0) sample_free(&s);
        assert_int_equal(status, -1);
        assert_non_null(strstr(err.message, "set: 4 broken samples, of which 3 are allowed "
                                            "(--max-bad-samples); the last: "));
        dataset_close(d);
    }

    write_text(scratch("set/metadata.jsonl"), "x\n{\"file_name\": \"cut.jpg\", \"text\": \"a\"}");
    Sample s;
    o = (DatasetOptions){.dir = dir, .max_bad_samples = 9};
    d = must_open(&o);
    err = (Error){0};
    assert_int_equal(dataset_next(d, &s, &err), -1);
    assert_non_null(strstr(err.message, "set: all 2 samples are broken; the last: "));
    dataset_close(d);
    scratch_entries(scratch("set"), true);
    rmdir(scratch("set"));
}

static void broken_texts_are_named(void **state) {
    (void)state;
    make_dir("set");
    static const char *const names[] = {"a.png", "b.png", "c.png", "d.png", "e.png"};
    for (int i = 0; i < 5; i++) {
        char to[32];
        snprintf(to, sizeof to, "set/%s", names[i]);
        copy_file(SETS "folder/0.png", scratch(to));
    }
    write_text(scratch("set/a.txt"), "\xef\xbb\xbfpicture 0\n \r\n");
    write_text(scratch("set/b.txt"), "");
    write_text(scratch("set/c.txt"), "\xff\xfe");
    write_bytes(scratch("set/d.txt"), "a\0b", 3);
    write_text(scratch("set/alone.txt"), "no picture: nobody asks for it");
    Log log = {0};
    char dir[128];
    strcpy(dir, scratch("set"));
    Dataset *d = must_open(
        &(DatasetOptions){.dir = dir, .max_bad_samples = 3, .log = keep_line, .log_self = &log});
    Sample s;
    for (int i = 0; i < 2; i++) {
        assert_int_equal(must_next(d, &s), 1);
        assert_string_equal(s.caption, *s.id == 'a' ? "picture 0" : "");
        sample_free(&s);
    }
    assert_int_equal(must_next(d, &s), 0);
    assert_int_equal(log.lines, 3);
    assert_non_null(strstr(log.text, "set/c.txt: not valid UTF-8"));
    assert_non_null(strstr(log.text, "set/d.txt: holds a NUL character"));
    assert_non_null(strstr(log.text, "set/e.txt: can't be opened: No such file or directory"));
    dataset_close(d);
    scratch_entries(scratch("set"), true);
    rmdir(scratch("set"));
}

/* ---- shards that are broken ------------------------------------------------------------------------------- */

typedef struct Archive {
    size_t size;
    char bytes[65536];
} Archive;

static void add_member(Archive *a, const char *name, const char *bytes, size_t size) {
    char *h = a->bytes + a->size;
    unsigned sum = 0;
    const size_t padded = (size + 511) / 512 * 512;
    assert_true(a->size + 512 + padded + 1024 <= sizeof a->bytes);
    memset(h, 0, 512 + padded + 1024);
    strcpy(h, name);
    sprintf(h + 124, "%011o", (unsigned)size);
    memset(h + 148, ' ', 8);
    h[156] = '0';
    memcpy(h + 257,
           "ustar\0"
           "00",
           8);
    for (int i = 0; i < 512; i++) sum += (unsigned char)h[i];
    sprintf(h + 148, "%06o", sum);
    memcpy(h + 512, bytes, size);
    a->size += 512 + padded;
}

static void add_text(Archive *a, const char *name, const char *text) {
    add_member(a, name, text, strlen(text));
}

static void write_archive(const Archive *a, const char *path) {
    write_bytes(path, a->bytes, a->size + 1024);
}

static void broken_members_are_named(void **state) {
    (void)state;
    size_t size;
    Error err = {0};
    char *png = file_read(SETS "folder/0.png", &size, &err);
    static Archive a;
    a.size = 0;
    add_text(&a, "README", "no sample");
    add_text(&a, ".hidden.txt", "no sample");
    add_text(&a, "info.yaml", "no sample");
    add_member(&a, "0.png", png, size);
    add_text(&a, "LICENSE", "of no sample, in the middle of one");
    add_text(&a, "0.cls", "3");
    add_text(&a, "0.txt", "picture 0\n");
    add_text(&a, "0.json", "{\"caption\": \"less than the .txt\"}");
    add_text(&a, "1.txt", "no picture");
    add_member(&a, "2.png", png, size);
    add_member(&a, "3.png", png, size);
    add_member(&a, "3.jpg", png, size);
    add_text(&a, "3.txt", "two pictures");
    add_member(&a, "4.png", png, size);
    add_text(&a, "4.json", "{\"key\": 3}");
    add_member(&a, "5.png", png, size);
    add_text(&a, "5.json", "{");
    add_member(&a, "6.png", png, size / 2);
    add_text(&a, "6.txt", "half a picture");
    add_member(&a, "dir.v1/1.a.png", png, size);
    add_text(&a, "dir.v1/1.txt", "a.png is no ending that is known");
    add_text(&a, "dir.v1/2.JSON", "{\"text\": \"picture 1\"}");
    add_member(&a, "dir.v1/2.JPG", png, size);
    add_text(&a, "\xff.txt", "no picture, and no name");
    make_dir("set");
    write_archive(&a, scratch("set/a.tar"));
    free(png);
    Log log = {0};
    char dir[128];
    strcpy(dir, scratch("set"));
    DatasetOptions o = {.dir = dir, .max_bad_samples = 20, .log = keep_line, .log_self = &log};
    Dataset *d = must_open(&o);
    for (int epoch = 0; epoch < 3; epoch++) draw_epoch(d, 2);
    static const char *const named[] = {
        "a.tar:1: no picture: expected a .jpg, .jpeg or .png",
        "a.tar:2: no caption: expected a .txt or .json beside the picture",
        "a.tar:3: it has two members of the same kind",
        "a.tar:4: no caption: expected a string as \"text\" or \"caption\"",
        "a.tar:5: not JSON",
        "a.tar:6: the file ends too early",
        "a.tar:dir.v1/1: no picture",
        "a.tar:?: no picture"};
    enum { NAMED = sizeof named / sizeof named[0] };
    for (size_t i = 0; i < NAMED; i++)
        if (!strstr(log.text, named[i])) fail_msg("no \"%s\" in\n%s", named[i], log.text);
    assert_int_equal(log.lines, NAMED);
    assert_int_equal(dataset_bad(d), NAMED);
    dataset_close(d);
    scratch_entries(scratch("set"), true);
    rmdir(scratch("set"));
}

/* A shard cut anywhere: what is before the cut is there, the rest counts, and nothing else is lost. */
static void a_damaged_shard_costs_its_rest(void **state) {
    (void)state;
    size_t size;
    Error err = {0};
    char dir[128];
    make_dir("set");
    strcpy(dir, scratch("set"));
    copy_file(SETS "shards/00001.tar", scratch("set/00001.tar"));
    char *bytes = file_read(SETS "shards/00000.tar", &size, &err);
    int fewest = COUNT, most = 0;
    for (size_t cut = (size - 1024) % 211; cut <= size - 1024; cut += 211) {
        Log log = {0};
        unlink(scratch("set/00000.tar"));
        write_bytes(scratch("set/00000.tar"), bytes, cut);
        DatasetOptions o = {
            .dir = dir, .buffer = 2, .max_bad_samples = 2, .log = keep_line, .log_self = &log};
        Dataset *d = must_open(&o);
        for (int epoch = 0; epoch < 2; epoch++) {
            int i, samples = 0, of_the_other = 0;
            for (; (i = draw(d)) >= 0; samples++) of_the_other += i >= 3;
            assert_int_equal(of_the_other, 3);
            if (samples < fewest) fewest = samples;
            if (samples > most) most = samples;
        }
        assert_in_range(log.lines, 1, 2);
        assert_non_null(strstr(log.text, "00000.tar: truncated: "));
        assert_non_null(strstr(log.text, "; the rest of it is passed over"));
        dataset_close(d);
    }
    assert_int_equal(fewest, 3);
    assert_int_equal(most, 6);
    free(bytes);

    static Archive a;
    a.size = 0;
    unlink(scratch("set/00000.tar"));
    write_archive(&a, scratch("set/00001.tar"));
    Sample s;
    Dataset *d = must_open(&(DatasetOptions){.dir = dir});
    assert_int_equal(dataset_next(d, &s, &err), -1);
    assert_error(&err,
                 "set: its shards hold no samples: expected pictures (.jpg, .jpeg, .png), each "
                 "with a .txt or .json of the same name behind it");
    dataset_close(d);
    scratch_entries(scratch("set"), true);
    rmdir(scratch("set"));
}

/* Shards that vanish while they are read end the run with a message. */
static void vanished_shards_are_an_error(void **state) {
    (void)state;
    char dir[128];
    make_dir("set");
    strcpy(dir, scratch("set"));
    copy_file(SETS "shards/00000.tar", scratch("set/0.tar"));
    copy_file(SETS "shards/00001.tar", scratch("set/1.tar"));
    Dataset *d = must_open(&(DatasetOptions){.dir = dir, .buffer = 1});
    Sample s;
    Error err = {0};
    assert_int_equal(must_next(d, &s), 1);
    sample_free(&s);
    scratch_entries(dir, true);
    int status;
    while ((status = dataset_next(d, &s, &err)) > 0) sample_free(&s);
    assert_int_equal(status, -1);
    assert_non_null(strstr(err.message, ".tar: can't be opened: No such file or directory"));
    dataset_close(d);
    rmdir(dir);
}

/* ---- augmentation ----------------------------------------------------------------------------------------- */

static void resize_and_crop_are_torchvisions(void **state) {
    (void)state;
    Golden *g = golden_open("dataset/set");
    const Safetensors *s = golden_file(g);
    int cases = 0;
    for (size_t i = 0; i < safetensors_count(s); i++) {
        const StoredTensor *in = safetensors_at(s, i);
        if (strncmp(in->name, "rgb.", 4) != 0) continue;
        char name[64];
        snprintf(name, sizeof name, "crop.%s", in->name + 4);
        const StoredTensor *truth = safetensors_find(s, name);
        assert_non_null(truth);
        const Augment a = {.resolution = truth->dim[0], .center_crop = true};
        const int64_t R = a.resolution, H = in->dim[0], W = in->dim[1];
        Augmentation p = augment_plan(&a, W, H, 0);
        real *out = malloc((size_t)(R * R * 3) * sizeof *out);
        Error err = {0};
        assert_int_equal(augment_apply(&a, &p, in->data, W, H, out, &err), 0);
        for (int64_t k = 0; k < R * R * 3; k++)
            assert_int_equal((int)((out[k] + 1) * 127.5 + 0.5), ((const uint8_t *)truth->data)[k]);
        snprintf(name, sizeof name, "tensor.%s", in->name + 4);
        golden_check_data(g, name, out, 3, (const int64_t[]){R, R, 3}, OPERATOR);
        assert_true(p.upscaled == (strcmp(in->name, "rgb.upscaled") == 0));
        free(out);
        cases++;
    }
    assert_int_equal(cases, 9);
    golden_close(g);
}

/* Every place and both sides come, as often as each other; and again by the same index. */
static void crops_and_flips_are_drawn_by_index(void **state) {
    (void)state;
    const Augment a = {.resolution = 8, .random_flip = true, .seed = 4};
    int left[5] = {0}, flips = 0;
    for (int64_t i = 0; i < 5000; i++) {
        Augmentation p = augment_plan(&a, 24, 16, i), q = augment_plan(&a, 24, 16, i);
        assert_memory_equal(&p, &q, sizeof p);
        assert_int_equal(p.width, 12);
        assert_int_equal(p.top, 0);
        left[p.left]++;
        flips += p.flip;
    }
    for (int i = 0; i < 5; i++) assert_in_range(left[i], 880, 1120);
    assert_in_range(flips, 2360, 2640);

    uint8_t rgb[8 * 8 * 3];
    real plain[8 * 8 * 3], flipped[8 * 8 * 3];
    Error err = {0};
    for (size_t i = 0; i < sizeof rgb; i++) rgb[i] = (uint8_t)(i * 37);
    Augmentation p = {.width = 8, .height = 8};
    augment_apply(&a, &p, rgb, 8, 8, plain, &err);
    p.flip = true;
    augment_apply(&a, &p, rgb, 8, 8, flipped, &err);
    for (int y = 0; y < 8; y++)
        for (int x = 0; x < 8; x++)
            assert_memory_equal(plain + (y * 8 + x) * 3, flipped + (y * 8 + 7 - x) * 3,
                                3 * sizeof(real));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_layout_has_the_same_samples),
        cmocka_unit_test(order_depends_on_seed_and_epoch_alone),
        cmocka_unit_test(a_buffer_of_one_shuffles_shards_alone),
        cmocka_unit_test(no_place_is_preferred),
        cmocka_unit_test(the_buffer_shuffles),
#ifndef __SANITIZE_ADDRESS__
        cmocka_unit_test(a_large_set_takes_a_small_list),
#endif
        cmocka_unit_test(ranks_share_one_order),
        cmocka_unit_test(restoring_goes_on_with_the_next_sample),
        cmocka_unit_test(one_rank_saves_for_all),
        cmocka_unit_test(other_positions_are_refused),
        cmocka_unit_test(no_set_at_all),
        cmocka_unit_test(broken_lines_are_named_once),
        cmocka_unit_test(broken_texts_are_named),
        cmocka_unit_test(broken_members_are_named),
        cmocka_unit_test(a_damaged_shard_costs_its_rest),
        cmocka_unit_test(vanished_shards_are_an_error),
        cmocka_unit_test(resize_and_crop_are_torchvisions),
        cmocka_unit_test(crops_and_flips_are_drawn_by_index),
    };
    return cmocka_run_group_tests_name("dataset", tests, scratch_make, scratch_remove);
}
