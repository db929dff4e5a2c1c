/* The program as a person meets it: options, help, what each command prints and writes. What it says
 * of bad input is in test_cli_bad_input.c. */
#include "cli_run.h"

#include "ref/image.h"
#include "weights/npy.h"

/* ---- help and usage ------------------------------------------------------------------------------ */

static void without_a_command_it_says_what_there_is(void **state) {
    (void)state;
    Result r = run("", (const char *[]){NULL});
    assert_int_equal(r.code, 2);
    assert_string_equal(r.out, "");
    assert_holds(r.err, "Usage: llmdiff COMMAND [options]\n");
    assert_holds(r.err, "  init-adapter ");
}

static void help_goes_to_stdout(void **state) {
    (void)state;
    static const char *const words[] = {"--help", "-h", "help"};
    for (int i = 0; i < 3; i++) {
        Result r = RUN(words[i]);
        assert_ok(r);
        assert_holds(r.out, "Usage: llmdiff COMMAND [options]\n");
        assert_holds(r.out, "Exit codes: 0 done, 1 failed, 2 wrong usage, 130 cancelled.");
    }
}

static void version_names_the_precision(void **state) {
    (void)state;
    Result r = RUN("--version");
    assert_ok(r);
    if (strcmp(r.out, "llmdiff 0.1.0 (" REAL_NAME ", MPI)\n") != 0) /* by make MPI=1 */
        assert_string_equal(r.out, "llmdiff 0.1.0 (" REAL_NAME ")\n");
}

static void assert_lists(const char *command, const char *const *flags) {
    Result r = RUN("help", command), same = RUN(command, "--help"), letter = RUN(command, "-h");
    assert_ok(r);
    assert_string_equal(r.out, same.out);
    assert_string_equal(r.out, letter.out);
    for (int i = 0; flags[i]; i++) assert_holds(r.out, flags[i]);
    for (const char *p = r.out; *p; p += strcspn(p, "\n") + 1)
        if (strcspn(p, "\n") > 80) fail_msg("a line of more than 80 columns: %.90s", p);
}

static void help_lists_every_flag_with_its_default(void **state) {
    (void)state;
    assert_lists("generate", (const char *[]){"-p, --prompt TEXT",
                                              "--prompt-file FILE",
                                              "-n, --negative-prompt TEXT",
                                              "-m, --model DIR",
                                              "(default weights/tiny)",
                                              "--llm DIR",
                                              "--unet DIR",
                                              "--vae DIR",
                                              "--adapter DIR",
                                              "-W, --width N",
                                              "-H, --height N",
                                              "-s, --seed N",
                                              "(default 42)",
                                              "--steps N",
                                              "(default: the pack's, else 20)",
                                              "--cfg-scale X",
                                              "(default: the pack's, else 7.5)",
                                              "--eta X",
                                              "(default 0)",
                                              "-b, --batch-count N",
                                              "(default 1)",
                                              "--set KEY=VALUE",
                                              "--no-langevin-noise",
                                              "-o, --output FILE",
                                              "(default output.png)",
                                              "--init-latents FILE",
                                              "--save-latents FILE",
                                              "--enlarge N",
                                              "--noise FILE",
                                              "-t, --threads N",
                                              "-v, --verbose",
                                              "--quiet",
                                              "-h, --help",
                                              NULL});
    assert_lists("encode",
                 (const char *[]){"--prompt ", "--prompt-file ", "--model ", "--llm ", "--adapter ",
                                  "--seed ", "--set ", "--no-langevin-noise", "--output ",
                                  "(default encoding.safetensors)", "--noise ", "--threads ",
                                  "--quiet", NULL});
    assert_lists("tokenize",
                 (const char *[]){"--prompt ", "--prompt-file ", "--model ", "--llm ", NULL});
    assert_lists("info", (const char *[]){"--tensors", NULL});
    assert_lists("init-adapter", (const char *[]){"--model ", "--llm ", "--unet ", "--seed ",
                                                  "--set ", "-o, --output DIR", NULL});
    assert_lists("compare", (const char *[]){"--only REGEX", "--rtol X", "--atol X", "--map FILE",
                                             "--kit DIR", "-m, --model DIR", "--all", "--json FILE",
                                             "Exit codes: 0 match, 1 ", NULL});
    assert_lists("verify", (const char *[]){"--kit DIR", "--port DIR", "--only REGEX", "--free",
                                            "--forced", "-o, --output DIR", "--all", "--json FILE",
                                            "-t, --threads N", "Exit codes: 0 match, 1 ", NULL});
}

static void the_nearest_flag_is_suggested(void **state) {
    (void)state;
    assert_error(RUN("generate", "--stpes", "3"), 2,
                 "generate: unknown flag --stpes; did you mean --steps?");
    assert_error(RUN("generate", "--cfg_scale=3"), 2,
                 "generate: unknown flag --cfg_scale; did you mean --cfg-scale?");
    assert_error(RUN("generate", "--neg", "x"), 2,
                 "generate: unknown flag --neg; did you mean --negative-prompt?");
    assert_error(RUN("generate", "-steps", "3"), 2,
                 "generate: unknown flag -steps; did you mean --steps?");
    assert_error(RUN("generate", "--frobnicate"), 2,
                 "generate: unknown flag --frobnicate; llmdiff generate --help lists them");
    assert_error(RUN("encode", "--steps", "3"), 2,
                 "encode: unknown flag --steps; it belongs to llmdiff generate");
}

static void the_nearest_command_is_suggested(void **state) {
    (void)state;
    assert_error(RUN("genrate"), 2, "unknown command \"genrate\"; did you mean generate?");
    assert_error(RUN("paint"), 2, "unknown command \"paint\"; llmdiff --help lists them");
    assert_error(RUN("help", "paint"), 2, "unknown command \"paint\"; llmdiff --help lists them");
}

static void a_flag_needs_its_value(void **state) {
    (void)state;
    assert_error(RUN("generate", "-p", "a", "--steps"), 2, "--steps needs a value: --steps N");
    assert_error(RUN("generate", "-p", "a", "-o", "--steps", "3"), 2, "-o needs a value: -o FILE");
    assert_error(RUN("generate", "-p", "a", "--quiet=yes"), 2,
                 "--quiet takes no value, found \"yes\"");
}

static void numbers_are_read_in_full(void **state) {
    (void)state;
    assert_error(GENERATE("--steps", "3x"), 2, "--steps: expected a whole number, found \"3x\"");
    assert_error(GENERATE("--steps", " 3"), 2, "--steps: expected a whole number, found \" 3\"");
    assert_error(GENERATE("--steps="), 2, "--steps: expected a whole number, found \"\"");
    assert_error(GENERATE("--steps", "2.5"), 2, "--steps: expected a whole number, found \"2.5\"");
    assert_error(GENERATE("-s", "9223372036854775808"), 2,
                 "--seed: expected -9223372036854775808 to 9223372036854775807, found "
                 "9223372036854775808");
    assert_error(GENERATE("-t", "0"), 2, "--threads: expected 1 to 1024, found 0");
    assert_error(GENERATE("-t", "1025"), 2, "--threads: expected 1 to 1024, found 1025");
    assert_error(GENERATE("-b", "0"), 2, "--batch-count: expected 1 to 10000, found 0");
    assert_error(GENERATE("--cfg-scale", "nan"), 2,
                 "--cfg-scale: expected a number, found \"nan\"");
    assert_error(GENERATE("--cfg-scale", "1e999"), 2,
                 "--cfg-scale: expected a number, found \"1e999\"");
    assert_error(GENERATE("--eta", "1.5"), 2, "--eta: expected 0 to 1, found 1.5");
    assert_directory("");
}

static void an_argument_that_is_no_option(void **state) {
    (void)state;
    assert_error(RUN("generate", "a red circle"), 2,
                 "generate: unexpected argument \"a red circle\"; the prompt goes with -p");
    assert_error(RUN("info"), 2, "info: of what? Give a directory or a file");
    assert_error(RUN("info", "a", "b"), 2, "info: expected one DIR|FILE, found \"a\" and \"b\"");
}

/* ---- generate ------------------------------------------------------------------------------------ */

static void a_picture_is_written_and_told(void **state) {
    (void)state;
    Result r = GENERATE("-s", "7");
    assert_ok(r);
    assert_string_equal(r.out, "@/x.png: 16 x 16, seed 7\n");
    assert_directory("x.png ");
}

static void sizes_are_taken(void **state) {
    (void)state;
    Result r = GENERATE("-W", "24", "--height=10");
    assert_ok(r);
    assert_string_equal(r.out, "@/x.png: 24 x 10, seed 42\n");
    ImageInfo info;
    Error err = {0};
    assert_int_equal(image_read_info(path("@/x.png"), &info, &err), 0);
    assert_int_equal(info.width, 24);
    assert_int_equal(info.height, 10);
    image_info_free(&info);
}

static void threads_do_not_change_a_byte(void **state) {
    (void)state;
    assert_ok(GENERATE("-t", "1", "-o", "@/1.png", "--save-latents", "@/1.npy"));
    assert_ok(GENERATE("-t", "2", "-o", "@/2.png", "--save-latents", "@/2.npy"));
    assert_ok(GENERATE("-t", "3", "-o", "@/3.png", "--save-latents", "@/3.npy"));
    assert_true(same_file("@/1.png", "@/2.png"));
    assert_true(same_file("@/1.png", "@/3.png"));
    assert_true(same_file("@/1.npy", "@/2.npy"));
    assert_true(same_file("@/1.npy", "@/3.npy"));
}

static void every_option_that_should_change_the_picture_does(void **state) {
    (void)state;
    static const char *const options[][2] = {{"-p", "a blue square"},
                                             {"-n", "green"},
                                             {"-s", "43"},
                                             {"--steps", "3"},
                                             {"--cfg-scale", "3"},
                                             {"--eta", "1"},
                                             {"--set", "word_score=false"},
                                             {"--adapter", "golden/micro/adapter_c"}};
    assert_ok(GENERATE("--no-langevin-noise", "--save-latents", "@/plain.npy"));
    for (size_t i = 0; i < sizeof options / sizeof options[0]; i++) {
        assert_ok(GENERATE("--no-langevin-noise", "--save-latents", "@/other.npy", options[i][0],
                           options[i][1]));
        if (same_file("@/plain.npy", "@/other.npy"))
            fail_msg("%s %s changed nothing", options[i][0], options[i][1]);
    }
}

static void no_langevin_noise_is_noise_false_in_its_place(void **state) {
    (void)state;
    assert_ok(GENERATE("--no-langevin-noise", "--save-latents", "@/a.npy"));
    assert_ok(GENERATE("--set", "noise=false", "--save-latents", "@/b.npy"));
    assert_ok(GENERATE("--no-langevin-noise", "--set", "noise=true", "--save-latents", "@/c.npy"));
    assert_true(same_file("@/a.npy", "@/b.npy"));
    assert_false(same_file("@/a.npy", "@/c.npy"));
}

static void parts_are_overridden(void **state) {
    (void)state;
    assert_ok(GENERATE("--save-latents", "@/a.npy"));
    /* other models in every place, and micro's scheduler, which no flag names */
    assert_int_equal(system(path("mkdir @/p && ln -s \"$PWD\"/weights/tiny/* @/p && "
                                 "rm @/p/model_index.json @/p/scheduler && "
                                 "ln -s \"$PWD\"/golden/micro/scheduler @/p")),
                     0);
    assert_ok(GENERATE("-m", "@/p", "--llm", MICRO "/llm", "--unet", MICRO "/unet", "--vae",
                       MICRO "/vae", "--adapter", MICRO "/adapter", "--save-latents", "@/b.npy"));
    assert_true(same_file("@/a.npy", "@/b.npy"));
    Result r = RUN("info", "@/x.png");
    assert_holds(r.out, "  llm                        golden/micro/llm\n");
    assert_holds(r.out, "  vae                        golden/micro/vae\n");
}

static void an_empty_prompt_is_valid(void **state) {
    (void)state;
    assert_ok(GENERATE("-p", ""));
    assert_ok(RUN("tokenize", "-m", MICRO, "-p", ""));
    Result r = RUN("tokenize", "-m", MICRO, "-p", "");
    assert_string_equal(r.out, "461\t<|endoftext|>\n");
}

static void a_prompt_from_a_file_is_the_same_prompt(void **state) {
    (void)state;
    static const char *const ends[] = {"", "\n", "\r\n"};
    assert_ok(GENERATE("-o", "@/a.png"));
    for (int i = 0; i < 3; i++) {
        char text[64];
        snprintf(text, sizeof text, "a red circle%s", ends[i]);
        put_text("@/p.txt", text);
        assert_ok(RUN("generate", "-m", MICRO, "--prompt-file", "@/p.txt", "-o", "@/b.png",
                      "--steps", "2", "--quiet", "--enlarge", "1"));
        assert_true(same_file("@/a.png", "@/b.png"));
    }
}

static void each_line_of_a_file_is_a_prompt(void **state) {
    (void)state;
    char how[128];
    put_text("@/p.txt", "a red circle\r\n\n \t\n a blue square\ngreen");
    Result r =
        RUN("generate", "-m", MICRO, "--prompt-file", "@/p.txt", "-o", "@/a.png", "--steps", "2",
            "--quiet", "-b", "2", "-s", "7", "--save-latents", "@/a.npy", "--enlarge", "1");
    assert_ok(r);
    assert_string_equal(r.out, "@/a.png: 16 x 16, seed 7\n@/a_2.png: 16 x 16, seed 8\n"
                               "@/a_3.png: 16 x 16, seed 7\n@/a_4.png: 16 x 16, seed 8\n"
                               "@/a_5.png: 16 x 16, seed 7\n@/a_6.png: 16 x 16, seed 8\n");
    assert_directory("a.npy a.png a_2.npy a_2.png a_3.npy a_3.png a_4.npy a_4.png a_5.npy a_5.png "
                     "a_6.npy a_6.png p.txt ");
    static const char *const prompts[] = {"a red circle", " a blue square", "green"};
    for (int i = 0; i < 6; i++) {
        char name[32];
        snprintf(name, sizeof name, i ? "@/a_%d.png" : "@/a.png", i + 1);
        assert_ok(GENERATE("-p", prompts[i / 2], "-s", i % 2 ? "8" : "7", "-o", "@/b.png"));
        assert_true(same_file("@/b.png", name));
    }
    snprintf(how, sizeof how, "<%s/p.txt", work);
    assert_ok(RUN_WITH(how, "generate", "-m", MICRO, "--prompt-file", "-", "-o", "@/c.png",
                       "--steps", "2", "--quiet", "-s", "7", "--enlarge", "1"));
    assert_true(same_file("@/c_3.png", "@/a_5.png"));
}

static void a_prompt_from_standard_input(void **state) {
    (void)state;
    char how[128];
    put_text("@/p.txt", "a red circle\n\n");
    snprintf(how, sizeof how, "<%s/p.txt", work);
    Result file = RUN_WITH(how, "tokenize", "-m", MICRO, "--prompt-file", "-");
    Result text = RUN("tokenize", "-m", MICRO, "-p", "a red circle\n");
    assert_ok(file);
    assert_string_equal(file.out, text.out); /* one newline dropped, one kept */
}

static void prompts_that_are_no_text(void **state) {
    (void)state;
    put("@/nul", "a\0b", 3);
    assert_error(RUN("tokenize", "-m", MICRO, "--prompt-file", "@/nul"), 2,
                 "--prompt-file @/nul: expected text, found a zero byte at offset 1");
    assert_error(RUN("tokenize", "-m", MICRO, "--prompt-file", "@/no"), 2,
                 "--prompt-file @/no: can't be opened: No such file or directory");
    assert_error_holds(RUN("tokenize", "-m", MICRO, "--prompt-file", "@/"), 2,
                       "can't be read: Is a directory");
    assert_error(RUN("tokenize", "-m", MICRO, "--prompt-file", "/dev/zero"), 2,
                 "--prompt-file /dev/zero: expected less than 1048576 bytes");
}

static void invalid_utf8_is_what_the_tokenizer_reads(void **state) {
    (void)state;
    Result bad = RUN("tokenize", "-m", MICRO, "-p", "a\xff z");
    Result good = RUN("tokenize", "-m", MICRO, "-p", "a\xef\xbf\xbd z");
    assert_ok(bad);
    assert_string_equal(bad.out, good.out);
    assert_ok(GENERATE("-p", "a\xff z"));
    assert_holds(RUN("info", "@/x.png").out, "a\xef\xbf\xbd z\n");
}

static void a_prompt_is_asked_for_once(void **state) {
    (void)state;
    assert_error(RUN("generate", "-m", MICRO), 2,
                 "no prompt: give one with -p TEXT or --prompt-file FILE");
    assert_error(RUN("encode", "-m", MICRO, "-p", "a", "--prompt-file", "b"), 2,
                 "--prompt and --prompt-file: expected one of them, found both");
    assert_directory("");
}

static void a_batch_counts_seeds_and_names(void **state) {
    (void)state;
    Result r = GENERATE("-b", "3", "-s", "10", "--save-latents", "@/z.npy");
    assert_ok(r);
    assert_string_equal(r.out, "@/x.png: 16 x 16, seed 10\n"
                               "@/x_2.png: 16 x 16, seed 11\n"
                               "@/x_3.png: 16 x 16, seed 12\n");
    assert_directory("x.png x_2.png x_3.png z.npy z_2.npy z_3.npy ");
    assert_ok(GENERATE("-s", "12", "-o", "@/alone.png"));
    assert_true(same_file("@/alone.png", "@/x_3.png"));
}

static void a_random_seed_is_printed_and_reproduces(void **state) {
    (void)state;
    unsigned long long seed = 0;
    char text[32];
    Result r = GENERATE("-s", "-1");
    assert_ok(r);
    assert_int_equal(sscanf(strstr(r.out, "seed "), "seed %llu", &seed), 1);
    snprintf(text, sizeof text, "%llu", seed);
    assert_ok(GENERATE("-s", text, "-o", "@/again.png"));
    assert_true(same_file("@/x.png", "@/again.png"));
    assert_ok(GENERATE("--seed=-1", "-o", "@/other.png"));
    assert_false(same_file("@/x.png", "@/other.png"));
}

static void latents_are_saved_in_both_formats(void **state) {
    (void)state;
    assert_ok(GENERATE("-W", "20", "--save-latents", "@/z.npy"));
    assert_ok(GENERATE("-W", "20", "--save-latents", "@/z.safetensors"));
    Error err = {0};
    Npy npy;
    assert_int_equal(npy_read(path("@/z.npy"), &npy, &err), 0);
    Safetensors *file = safetensors_open(path("@/z.safetensors"), &err);
    const StoredTensor *t = safetensors_find(file, "latents/2");
    assert_non_null(t);
    assert_int_equal(t->dtype, sizeof(real) == 8 ? DTYPE_F64 : DTYPE_F32);
    assert_int_equal(npy.dtype, t->dtype);
    assert_int_equal(t->ndim, 3);
    assert_int_equal(t->dim[0], 4);
    assert_int_equal(t->dim[1], 8);
    assert_int_equal(t->dim[2], 10);
    assert_memory_equal(npy.dim, t->dim, 3 * sizeof(int64_t));
    double *wide = malloc(320 * sizeof *wide);
    assert_int_equal(stored_to_double(t, wide, &err), 0);
    assert_memory_equal(wide, npy.data, 320 * sizeof *wide);
    assert_string_equal(safetensors_metadata(file, "prompt"), "a red circle");
    free(wide);
    npy_free(&npy);
    safetensors_close(file);
}

static void first_latents_come_from_a_file(void **state) {
    (void)state;
    assert_ok(GENERATE("-s", "1", "--save-latents", "@/z.npy"));
    assert_ok(GENERATE("-s", "1", "--save-latents", "@/z.safetensors"));
    assert_ok(GENERATE("--init-latents", "@/z.npy", "--save-latents", "@/a.npy"));
    assert_ok(GENERATE("--init-latents", "@/z.safetensors", "--save-latents", "@/b.npy"));
    assert_ok(GENERATE("--save-latents", "@/c.npy"));
    assert_true(same_file("@/a.npy", "@/b.npy"));
    assert_false(same_file("@/a.npy", "@/c.npy"));
    assert_holds(RUN("info", "@/x.png").out, "seed ");
}

static void noise_comes_from_a_file(void **state) {
    (void)state;
    float eps[40 * 16], latents[256];
    StoredTensor t[8];
    size_t n = 0;
    static char names[8][32];
    for (int i = 0; i < 640; i++) eps[i] = (float)((i * 7919) % 201 - 100) / 60;
    for (int i = 0; i < 256; i++) latents[i] = (float)((i * 104729) % 201 - 100) / 60;
    /* "a red circle" is 4 tokens of micro's at least; asked of the program itself */
    Result tokens = RUN("tokenize", "-m", MICRO, "-p", "a red circle");
    int64_t count = 0;
    for (const char *p = tokens.out; (p = strchr(p, '\n')); p++) count++;
    assert_true(count <= 16);
    for (int prompt = 0; prompt < 2; prompt++)
        for (int step = 3; step >= 1; step--) {
            int64_t rows = prompt == 0 ? count : 1;
            snprintf(names[n], sizeof names[n], "%salg1/eps.%d", prompt ? "uncond/" : "", step);
            t[n] = (StoredTensor){.name = names[n],
                                  .dtype = DTYPE_F32,
                                  .ndim = 2,
                                  .dim = {rows, 40},
                                  .data = eps,
                                  .bytes = (size_t)rows * 160};
            n++;
        }
    t[n++] = (StoredTensor){.name = "latents/0",
                            .dtype = DTYPE_F32,
                            .ndim = 3,
                            .dim = {4, 8, 8},
                            .data = latents,
                            .bytes = sizeof latents};
    Error err = {0};
    assert_int_equal(safetensors_write(path("@/noise.safetensors"), t, n, NULL, &err), 0);
    assert_ok(GENERATE("--noise", "@/noise.safetensors", "-s", "1", "--save-latents", "@/a.npy"));
    assert_ok(GENERATE("--noise", "@/noise.safetensors", "-s", "2", "--save-latents", "@/b.npy"));
    assert_true(same_file("@/a.npy", "@/b.npy")); /* no draw is left to the seed */
    assert_int_equal(safetensors_write(path("@/noise.safetensors"), t, n - 1, NULL, &err), 0);
    assert_error(GENERATE("--noise", "@/noise.safetensors", "-o", "@/no.png"), 1,
                 "@/noise.safetensors: the noise \"latents/0\" is wanted and not in the file");
}

static void the_png_tells_how_it_was_made(void **state) {
    (void)state;
    assert_ok(GENERATE("-n", "green", "-s", "5", "--cfg-scale", "3.25", "--eta=0.5", "--set",
                       "word_score=false", "-t", "2"));
    Result r = RUN("info", "@/x.png");
    assert_ok(r);
    char expected[4096];
    snprintf(expected, sizeof expected,
             "@/x.png: PNG, 16 x 16, RGB, 8 bit\n"
             "  prompt                     a red circle\n"
             "  negative_prompt            green\n"
             "  seed                       5\n"
             "  steps                      2\n"
             "  cfg_scale                  3.25\n"
             "  eta                        0.5\n"
             "  width                      16\n"
             "  height                     16\n"
             "  sampler                    ddim\n"
             "  conditioner                llmdiff\n"
             "  model                      golden/micro\n"
             "  settings                   {\"init\":\"embedding\",\"noise\":true,"
             "\"score\":\"residual\",\"word_score\":false,\"normalize\":\"none\",\"blocks\":null,"
             "\"g_scale\":1,\"h_scale\":1,\"tau_input\":\"phi_c\",\"out\":\"own\","
             "\"layers\":null,\"a1\":null,\"b1\":null,\"a2\":null,\"b2\":null}\n"
             "  Software                   llmdiff 0.1.0 (" REAL_NAME ")\n");
    assert_string_equal(r.out, expected);
}

static void notes_and_warnings_unless_quiet(void **state) {
    (void)state;
    Result r = RUN("generate", "-m", MICRO, "-p", "a", "-o", "@/x.png", "--steps", "1");
    assert_int_equal(r.code, 0);
    assert_string_equal(r.err, "llmdiff: warning: golden/micro/adapter was never trained (step 0): "
                               "the picture can't follow the prompt; --conditioner clip draws "
                               "with CLIP's text encoder, where the pack has one\n");
    assert_ok(GENERATE("-m", MICRO));
}

static void the_sampler_is_the_packs_or_the_one_asked_for(void **state) {
    (void)state;
    char command[256];
    snprintf(command, sizeof command,
             "cp -r golden/micro %s/p && sed -i s/DDIMScheduler/LMSDiscreteScheduler/ "
             "%s/p/scheduler/scheduler_config.json",
             work, work);
    assert_int_equal(system(command), 0);
    Result r = RUN("generate", "-m", "@/p", "-p", "a", "-o", "@/x.png", "--steps", "1");
    assert_int_equal(r.code, 2);
    assert_holds(r.err, "_class_name: expected DDPMScheduler, ");
    assert_holds(r.err,
                 "found LMSDiscreteScheduler; --sampling-method NAME samples with another one");
    assert_ok(GENERATE("-m", "@/p", "--sampling-method", "euler_a"));
    assert_error(GENERATE("--sampling-method", "heun"), 2,
                 "--sampling-method: expected ddpm, ddim, pndm, euler, euler_a or dpm++2m, found "
                 "heun");
    /* PNDM with SD 1.5's own file makes one evaluation more than steps. */
    snprintf(command, sizeof command,
             "cp golden/data/schedule/pndm_config/scheduler_config.json %s/p/scheduler/", work);
    assert_int_equal(system(command), 0);
    assert_ok(GENERATE("-m", "@/p", "--save-latents", "@/l.safetensors"));
    Error err = {0};
    char path[300];
    snprintf(path, sizeof path, "%s/l.safetensors", work);
    Safetensors *f = safetensors_open(path, &err);
    assert_non_null(f);
    assert_non_null(safetensors_find(f, "latents/3"));
    assert_string_equal(safetensors_metadata(f, "sampler"), "pndm");
    safetensors_close(f);
}

static void verbose_tells_settings_times_and_memory(void **state) {
    (void)state;
    Result r = RUN("generate", "-m", MICRO, "-p", "a", "-o", "@/x.png", "--steps", "2", "-v");
    assert_int_equal(r.code, 0);
    assert_holds(r.err, "settings {\"init\":\"embedding\"");
    assert_holds(r.err, "(2 steps of ");
    assert_holds(r.err, "peak memory ");
    assert_null(strchr(r.err, '\r')); /* no progress line: not a terminal */
    assert_error(GENERATE("-v"), 2, "--quiet and --verbose: expected one of them, found both");
}

#define END "\001end" /* nothing that the program prints */

/* What arrived at a terminal up to END, or all of it if that is missing; "# left" for any time. */
static void read_terminal(int terminal, char *seen, size_t size) {
    char raw[4096] = "";
    for (size_t n = 0; !strstr(raw, END) && n + 1 < sizeof raw;) {
        ssize_t got = read(terminal, raw + n, sizeof raw - 1 - n);
        if (got < 0 && errno == EINTR) continue;
        if (got <= 0) break;
        n += (size_t)got;
        raw[n] = '\0';
    }
    size_t used = 0;
    for (const char *p = raw; *p && used + 4 < size;) {
        size_t time = strspn(p, "0123456789 hmins"); /* "3 s", "2 min 05 s", "1 h 02 min" */
        bool left = *p >= '0' && *p <= '9' && strncmp(p + time, "left", 4) == 0;
        if (left) seen[used++] = '#', seen[used++] = ' ', p += time;
        seen[used++] = *p++;
    }
    seen[used] = '\0';
}

static void progress_is_one_line_on_a_terminal(void **state) {
    (void)state;
    char how[128], seen[4096];
    int terminal = posix_openpt(O_RDWR | O_NOCTTY);
    if (terminal < 0 || grantpt(terminal) || unlockpt(terminal)) {
        printf("skipped: no pseudo terminal can be had here\n");
        skip();
    }
    int other_end = open(ptsname(terminal), O_RDWR | O_NOCTTY); /* keeps what was written */
    snprintf(how, sizeof how, "2>%s", ptsname(terminal));
    for (int quiet = 0; quiet < 2; quiet++) {
        Result r = RUN_WITH(how, "generate", "-m", MICRO, "-p", "a", "-o", "@/x.png", "--steps",
                            "2", "-b", "2", quiet ? "--quiet" : "--cfg-scale=2");
        assert_int_equal(r.code, 0);
        assert_int_equal(write(other_end, END, strlen(END)), strlen(END));
        read_terminal(terminal, seen, sizeof seen);
        if (quiet) {
            assert_string_equal(seen, END);
            continue;
        }
        const char *line = strchr(seen, '\n'); /* after the warning */
        assert_non_null(line);
        assert_string_equal(line + 1,
                            "\r\033[Kpicture 1/2: encode 1/2\r\033[Kpicture 1/2: encode 2/2"
                            "\r\033[Kpicture 1/2: sample 1/2"
                            "\r\033[Kpicture 1/2: sample 2/2, # left"
                            "\r\033[Kpicture 1/2: decode\r\033[K\r\033[K"
                            "\r\033[Kpicture 2/2: encode 1/2\r\033[Kpicture 2/2: encode 2/2"
                            "\r\033[Kpicture 2/2: sample 1/2"
                            "\r\033[Kpicture 2/2: sample 2/2, # left"
                            "\r\033[Kpicture 2/2: decode\r\033[K\r\033[K" END);
    }
    close(other_end);
    close(terminal);
}

static void an_interrupt_cancels(void **state) {
    (void)state;
    static const int signals[] = {SIGINT, SIGTERM};
    for (int i = 0; i < 2; i++) {
        pid_t child =
            start("", (const char *[]){"generate", "-m", MICRO, "-p", "a", "-o", "@/x.png",
                                       "--steps", "999", "-W", "256", "-H", "256", "-t", "1",
                                       "--save-latents", "@/z.npy", NULL});
        /* after its warning: the models are open, the walk begins */
        Result r = interrupt(child, signals[i]);
        assert_int_equal(r.code, 130);
        assert_string_equal(strchr(r.err, '\n'), "\nllmdiff: cancelled\n");
        assert_string_equal(r.out, "");
        assert_directory("");
    }
}

/* ---- encode, tokenize, init-adapter, info -------------------------------------------------------- */

static void an_encoding_is_written(void **state) {
    (void)state;
    Result r = RUN("encode", "-m", MICRO, "-p", "a red circle", "-o", "@/c.safetensors", "-s", "3");
    assert_ok(r);
    Error err = {0};
    Safetensors *file = safetensors_open(path("@/c.safetensors"), &err);
    assert_non_null(file);
    const StoredTensor *ids = safetensors_find(file, "ids");
    const StoredTensor *c = safetensors_find(file, "alg1/c.0");
    assert_int_equal(ids->dtype, DTYPE_I64);
    assert_int_equal(c->dtype, sizeof(real) == 8 ? DTYPE_F64 : DTYPE_F32);
    assert_int_equal(c->dim[0], ids->dim[0]);
    assert_int_equal(c->dim[1], 40);
    assert_string_equal(safetensors_metadata(file, "seed"), "3");
    assert_string_equal(safetensors_metadata(file, "prompt"), "a red circle");
    assert_null(safetensors_metadata(file, "steps"));
    char line[128];
    snprintf(line, sizeof line, "@/c.safetensors: c [%lld, 40], seed 3\n", (long long)c->dim[0]);
    assert_string_equal(r.out, line);
    safetensors_close(file);
}

static void the_seed_of_an_encoding_is_its_noise(void **state) {
    (void)state;
    static const char *const seeds[] = {"1", "2"};
    for (int noise = 0; noise < 2; noise++) {
        for (int i = 0; i < 2; i++)
            assert_ok(RUN("encode", "-m", MICRO, "-p", "a", "-s", seeds[i], "-t", "1", "--quiet",
                          "-o", i ? "@/b.safetensors" : "@/a.safetensors", "--set",
                          noise ? "noise=true" : "noise=false"));
        Error err = {0};
        Safetensors *a = safetensors_open(path("@/a.safetensors"), &err);
        Safetensors *b = safetensors_open(path("@/b.safetensors"), &err);
        const StoredTensor *x = safetensors_find(a, "alg1/c.0"),
                           *y = safetensors_find(b, "alg1/c.0");
        assert_int_equal(memcmp(x->data, y->data, x->bytes) != 0, noise);
        safetensors_close(a);
        safetensors_close(b);
    }
}

static void an_encoding_needs_no_pack(void **state) {
    (void)state;
    assert_ok(RUN("encode", "-m", "/nowhere", "--llm", MICRO "/llm", "--adapter", MICRO "/adapter",
                  "-p", "a", "-o", "@/c.safetensors"));
    assert_error(RUN("encode", "-m", "/nowhere", "-p", "a", "-o", "@/d.safetensors"), 1,
                 "/nowhere: expected a pack's directory, found nothing: give one with -m");
    assert_directory("c.safetensors ");
}

static void tokens_are_ids_and_pieces(void **state) {
    (void)state;
    Result r = RUN("tokenize", "--llm", MICRO "/llm", "-p", "a red circle");
    assert_ok(r);
    assert_string_equal(r.out, "461\t<|endoftext|>\n64\ta\n377\t\xc4\xa0re\n67\td\n"
                               "271\t\xc4\xa0"
                               "c\n325\tir\n66\tc\n272\tle\n");
}

static void a_fresh_adapter_draws(void **state) {
    (void)state;
    Result r = RUN("init-adapter", "-m", MICRO, "-o", "@/fresh", "-s", "9");
    assert_ok(r);
    assert_string_equal(r.out, "@/fresh: 7,962 parameters (8.0k), seed 9\n");
    assert_ok(GENERATE("--adapter", "@/fresh"));
    assert_error(RUN("init-adapter", "-m", MICRO, "-o", "@/fresh"), 1,
                 "@/fresh/adapter.safetensors: is there already; not overwritten");
}

static void a_fresh_adapter_takes_settings(void **state) {
    (void)state;
    Result r = RUN("init-adapter", "--llm", MICRO "/llm", "--unet", MICRO "/unet", "-o", "@/fresh",
                   "--set", "tau_input=c", "--set", "out=shared");
    assert_ok(r);
    r = RUN("info", "@/fresh");
    assert_ok(r);
    assert_holds(r.out, "  tau_input                  \"c\"\n");
    assert_holds(r.out, "  out                        \"shared\"\n");
    assert_ok(GENERATE("--adapter", "@/fresh"));
    assert_error(RUN("init-adapter", "-m", MICRO), 2,
                 "no output: say with -o DIR where the adapter goes");
    assert_error(RUN("init-adapter", "--llm", MICRO "/llm", "-o", "@/no"), 2,
                 "no model: give a pack with -m, or --llm and --unet");
}

static void info_of_a_pack(void **state) {
    (void)state;
    Result r = RUN("info", MICRO);
    assert_ok(r);
    static const char *const lines[] = {"llm: golden/micro/llm\n",
                                        "  family                     phi\n",
                                        "  T (blocks)                 3\n",
                                        "  D (width)                  40\n",
                                        "  begin token                461 <|endoftext|>\n",
                                        "84,920 parameters (84.9k), F32\n",
                                        "  block_out_channels         [16,24]\n",
                                        "  cross-attentions           4\n",
                                        "  E (text width)             28\n",
                                        ", F16\n",
                                        "  factor                     2\n",
                                        ", BF16\n",
                                        "  class                      DDIMScheduler\n",
                                        "  steps_offset               1\n",
                                        "7,962 parameters (8.0k), F32\n",
                                        "settings\n",
                                        "  word_score                 true\n",
                                        "total: 260,841 parameters (260.8k)\n"};
    for (size_t i = 0; i < sizeof lines / sizeof lines[0]; i++) assert_holds(r.out, lines[i]);
}

static void info_of_each_part(void **state) {
    (void)state;
    static const char *const parts[] = {"llm", "unet", "vae", "scheduler", "adapter"};
    for (int i = 0; i < 5; i++) {
        char dir[64], head[80];
        snprintf(dir, sizeof dir, MICRO "/%s", parts[i]);
        snprintf(head, sizeof head, "%s: %s\n", parts[i], dir);
        Result r = RUN("info", dir);
        assert_ok(r);
        assert_true(strncmp(r.out, head, strlen(head)) == 0);
        assert_null(strstr(r.out, "total"));
    }
    Result r = RUN("info", "--tensors", MICRO "/vae");
    assert_ok(r);
    assert_holds(r.out, "  BF16 decoder.conv_in.weight [12, 4, 3, 3]\n");
}

static void info_of_files(void **state) {
    (void)state;
    Result r = RUN("info", MICRO "/adapter/adapter.safetensors");
    assert_ok(r);
    assert_holds(r.out, "adapter.safetensors: safetensors, ");
    assert_holds(r.out, "  step                       0\n");
    assert_holds(r.out, "  F32  phi.weight [28, 40]\n");
    assert_ok(GENERATE("--save-latents", "@/z.npy"));
    r = RUN("info", "@/z.npy");
    assert_ok(r);
    assert_string_equal(r.out, sizeof(real) == 8 ? "@/z.npy: npy, F64 [4, 8, 8]\n"
                                                 : "@/z.npy: npy, F32 [4, 8, 8]\n");
}

static void info_prints_no_control_characters(void **state) {
    (void)state;
    assert_ok(GENERATE("-p", "two\nlines \x1b[31m"));
    assert_holds(RUN("info", "@/x.png").out,
                 "  prompt                     \"two\\nlines \\u001b[31m\"\n");
    Result r = RUN("info", "/no\nwhere\x1b");
    assert_error(r, 1, "/no where?: can't be opened: No such file or directory");
}

/* ---- standard streams ---------------------------------------------------------------------------- */

static void a_full_or_closed_stdout_is_an_error(void **state) {
    (void)state;
    Result r = RUN_WITH(">/dev/full", "--help");
    assert_error(r, 1, "stdout: can't be written: No space left on device");
    r = RUN_WITH(">/dev/full", "info", MICRO);
    assert_error(r, 1, "stdout: can't be written: No space left on device");
    r = RUN_WITH(">&-", "tokenize", "-m", MICRO, "-p", "a");
    assert_error(r, 1, "stdout: can't be written: Bad file descriptor");
}

static void a_full_stderr_is_an_error(void **state) {
    (void)state;
    Result r = RUN_WITH("2>/dev/full", "generate", "-m", MICRO, "-p", "a", "-o", "@/x.png",
                        "--steps", "1"); /* the warning can't be written */
    assert_int_equal(r.code, 1);
}

static void closed_streams_do_not_land_in_the_picture(void **state) {
    (void)state;
    assert_ok(GENERATE("-o", "@/a.png"));
    Result r = RUN_WITH("<&- >&- 2>&-", "generate", "-m", MICRO, "-p", "a red circle", "-o",
                        "@/b.png", "--steps", "2", "--enlarge", "1");
    assert_int_equal(r.code, 1);
    assert_true(same_file("@/a.png", "@/b.png"));
}

/* The same picture, turned upright by its EXIF data, whichever of the two it comes as. */
static void begins_from_a_jpeg_as_from_a_png(void **state) {
    (void)state;
    static const char jpeg[] = "golden/data/dataset/pictures/turned6.jpg";
    uint8_t *rgb[2];
    int64_t w, h;
    Error err = {0};
    rgb[0] = image_read(jpeg, &w, &h, &err);
    assert_non_null(rgb[0]);
    assert_int_equal(image_write_png(path("@/in.png"), rgb[0], w, h, NULL, &err), 0);
    free(rgb[0]);
    for (int png = 0; png < 2; png++) {
        const char *from = png ? "@/in.png" : jpeg;
        assert_ok(GENERATE("-i", from, "--mask", from));
        rgb[png] = image_read(path("@/x.png"), &w, &h, &err);
        assert_non_null(rgb[png]);
        assert_int_equal(w, 12);
        assert_int_equal(h, 20);
    }
    assert_memory_equal(rgb[0], rgb[1], (size_t)(w * h * 3));
    free(rgb[0]);
    free(rgb[1]);
    put_text("@/bad.jpg", "\xff\xd8\xff, and then no JPEG");
    assert_error_holds(GENERATE("-i", "@/bad.jpg"), 2, "@/bad.jpg: ");
}

#define T(test) cmocka_unit_test_setup_teardown(test, fresh_directory, remove_directory)

int main(void) {
    const struct CMUnitTest tests[] = {
        T(begins_from_a_jpeg_as_from_a_png),
        T(without_a_command_it_says_what_there_is),
        T(help_goes_to_stdout),
        T(version_names_the_precision),
        T(help_lists_every_flag_with_its_default),
        T(the_nearest_flag_is_suggested),
        T(the_nearest_command_is_suggested),
        T(a_flag_needs_its_value),
        T(numbers_are_read_in_full),
        T(an_argument_that_is_no_option),
        T(a_picture_is_written_and_told),
        T(sizes_are_taken),
        T(threads_do_not_change_a_byte),
        T(every_option_that_should_change_the_picture_does),
        T(no_langevin_noise_is_noise_false_in_its_place),
        T(parts_are_overridden),
        T(an_empty_prompt_is_valid),
        T(a_prompt_from_a_file_is_the_same_prompt),
        T(each_line_of_a_file_is_a_prompt),
        T(a_prompt_from_standard_input),
        T(prompts_that_are_no_text),
        T(invalid_utf8_is_what_the_tokenizer_reads),
        T(a_prompt_is_asked_for_once),
        T(a_batch_counts_seeds_and_names),
        T(a_random_seed_is_printed_and_reproduces),
        T(latents_are_saved_in_both_formats),
        T(first_latents_come_from_a_file),
        T(noise_comes_from_a_file),
        T(the_png_tells_how_it_was_made),
        T(notes_and_warnings_unless_quiet),
        T(the_sampler_is_the_packs_or_the_one_asked_for),
        T(verbose_tells_settings_times_and_memory),
        T(progress_is_one_line_on_a_terminal),
        T(an_interrupt_cancels),
        T(an_encoding_is_written),
        T(the_seed_of_an_encoding_is_its_noise),
        T(an_encoding_needs_no_pack),
        T(tokens_are_ids_and_pieces),
        T(a_fresh_adapter_draws),
        T(a_fresh_adapter_takes_settings),
        T(info_of_a_pack),
        T(info_of_each_part),
        T(info_of_files),
        T(info_prints_no_control_characters),
        T(a_full_or_closed_stdout_is_an_error),
        T(a_full_stderr_is_an_error),
        T(closed_streams_do_not_land_in_the_picture),
    };
    return cmocka_run_group_tests_name("cli", tests, NULL, NULL);
}
