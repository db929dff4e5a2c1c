/* init-adapter for the models of the paper: Stable Diffusion 1.5, Phi-1.5 and Vicuna-7B at their real
 * size, but with a hole in the file where the weights would be (golden/export_full_size.py). */
#include "cli_run.h"

#define SHAPES "golden/data/full_size/"

/* @/<name>: the config, and a safetensors file of bf16 zeros with those names and shapes. */
static void make_model(const char *name, const char *stem) {
    char command[256], file[128], source[128];
    snprintf(command, sizeof command, "mkdir %s/%s && cp " SHAPES "%s/config.json %s/%s", work,
             name, name, work, name);
    assert_int_equal(system(command), 0);
    snprintf(file, sizeof file, "@/%s/%s.safetensors", name, stem);
    snprintf(source, sizeof source, SHAPES "%s/shapes.txt", name);
    size_t room = 1 << 18, used = 0;
    uint64_t bytes = 0;
    char *header = malloc(room), line[256];
    FILE *in = fopen(source, "r"), *out = fopen(path(file), "wb");
    assert_non_null(in);
    assert_non_null(out);
    while (fgets(line, sizeof line, in)) {
        char shape[64] = "", *word = strtok(line, " \n"), *dim;
        uint64_t n = 2;
        used += (size_t)snprintf(header + used, room - used, "%c\"%s\":", used ? ',' : '{', word);
        while ((dim = strtok(NULL, " \n"))) {
            snprintf(shape + strlen(shape), sizeof shape - strlen(shape), "%s%s", *shape ? "," : "",
                     dim);
            n *= strtoull(dim, NULL, 10);
        }
        used += (size_t)snprintf(header + used, room - used,
                                 "{\"dtype\":\"BF16\",\"shape\":[%s],\"data_offsets\":[%llu,%llu]}",
                                 shape, (unsigned long long)bytes, (unsigned long long)(bytes + n));
        bytes += n;
    }
    assert_true(used + 16 < room);
    header[used++] = '}';
    while (used % 8) header[used++] = ' ';
    uint64_t length = used;
    assert_int_equal(fwrite(&length, sizeof length, 1, out), 1);
    assert_int_equal(fwrite(header, 1, used, out), used);
    assert_int_equal(fflush(out), 0);
    assert_int_equal(ftruncate(fileno(out), (off_t)(8 + length + bytes)), 0);
    fclose(out);
    fclose(in);
    free(header);
}

static int make_models(void **state) {
    if (fresh_directory(state)) return -1;
    make_model("sd_1_5", "diffusion_pytorch_model");
    make_model("phi_1_5", "model");
    make_model("vicuna_7b", "model");
    return 0;
}

/* Per layer of C channels tau_q and tau_out C x C, tau_k and tau_v C x (768 or D), a bias, four
 * scalars; 5, 5 and 6 layers of 320, 640 and 1280; phi 768 x D and its bias; g and eta. */
static int64_t expected(int64_t D, int64_t T, int64_t width) {
    static const int64_t channels[] = {320, 640, 1280}, layers[] = {5, 5, 6};
    int64_t n = 768 * D + 768 + 2 * T;
    for (int i = 0; i < 3; i++) {
        int64_t C = channels[i];
        n += layers[i] * (2 * C * C + C + 2 * C * width + 4);
    }
    return n;
}

static void counts(const char *llm, const char *set, int64_t count, const char *printed) {
    assert_int_equal(count, strtoll(printed, NULL, 10));
    char line[128], grouped[32];
    snprintf(grouped, sizeof grouped, "%lld,%03lld,%03lld", (long long)(count / 1000000),
             (long long)(count / 1000 % 1000), (long long)(count % 1000));
    snprintf(line, sizeof line, "@/a: %s parameters (%.1fM), seed 42\n", grouped,
             (double)count / 1e6);
    Result r = RUN("init-adapter", "--llm", llm, "--unet", "@/sd_1_5", "-o", "@/a", "--set", set);
    assert_ok(r);
    assert_string_equal(r.out, line);
}

static void sd_1_5_with_phi_1_5_is_45_5M(void **state) {
    (void)state;
    counts("@/phi_1_5", "tau_input=phi_c", expected(2048, 24, 768), "45536304");
}

static void with_the_printed_tau_input_77_5M(void **state) {
    (void)state;
    counts("@/phi_1_5", "tau_input=c", expected(2048, 24, 2048), "77485104");
}

static void sd_1_5_with_vicuna_7b_is_47_1M(void **state) {
    (void)state;
    counts("@/vicuna_7b", "tau_input=phi_c", expected(4096, 32, 768), "47109184");
    /* The file for the other reading would be 520 MB: the same sum, which Phi-1.5's confirm. */
    assert_int_equal(expected(4096, 32, 4096), 130176064);
}

#define T(test) cmocka_unit_test_setup_teardown(test, make_models, remove_directory)

int main(void) {
    const struct CMUnitTest tests[] = {
        T(sd_1_5_with_phi_1_5_is_45_5M),
        T(with_the_printed_tau_input_77_5M),
        T(sd_1_5_with_vicuna_7b_is_47_1M),
    };
    return cmocka_run_group_tests_name("full_size", tests, NULL, NULL);
}
