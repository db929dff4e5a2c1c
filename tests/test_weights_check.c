/* The checker checked: it says no to everything that it should say no to. Its goldens are made here,
 * in a scratch directory, in the form that golden/common.py gives them. */
#include "tests/scratch.h"

#include <math.h>

#define IS_DOUBLE (sizeof(real) == sizeof(double))

static const double truth[6] = {0.5, -2, 0.25, 1, -0.125, 1.5};
static const double zero[6] = {0};
static const int64_t shape[2] = {2, 3};

static Golden *make_golden(void) {
    static const double scalar = 3;
    static const int64_t ids[3] = {5, 6, 7};
    const StoredTensor t[] = {
        {"odd", DTYPE_U8, 1, {1}, "x", 1}, /* so that nothing after it is aligned */
        {"y", DTYPE_F64, 2, {2, 3}, truth, sizeof truth},
        {"zero", DTYPE_F64, 2, {2, 3}, zero, sizeof zero},
        {"one", DTYPE_F64, 0, {0}, &scalar, 8},
        {"ids", DTYPE_I64, 1, {3}, ids, sizeof ids},
        {"case/seen", DTYPE_F64, 2, {2, 3}, truth, sizeof truth},
        {"unmeasured", DTYPE_F64, 2, {2, 3}, truth, sizeof truth},
        {"nan", DTYPE_F64, 2, {2, 3}, truth, sizeof truth},
        {"negative", DTYPE_F64, 2, {2, 3}, truth, sizeof truth},
        {"text", DTYPE_F64, 2, {2, 3}, truth, sizeof truth},
    };
    /* clang-format off */
    const char *const metadata[] = {
        "yardstick:y", "1e-06", "yardstick:zero", "0.0", "yardstick:one", "2e-07",
        "yardstick:case/seen", "1e-06", "yardstick:nan", "nan", "yardstick:negative", "-1e-06",
        "yardstick:text", "1e-06 or so", "eps", "1e-05", NULL};
    /* clang-format on */
    Error err = {0};
    if (safetensors_write(scratch("golden"), t, sizeof t / sizeof t[0], metadata, &err))
        fail_msg("%s", err.message);
    Golden *g = golden_open_file(scratch("golden"), "made", &err);
    if (!g) fail_msg("%s", err.message);
    return g;
}

/* Closes a golden that this file only looked at: golden_close would rightly complain. */
static void drop(Golden *g) {
    const real x = 3;
    golden_check_data(g, "one", &x, 1, (const int64_t[]){1}, OPERATOR);
    golden_close(g);
}

static void exact(real *x) {
    for (int i = 0; i < 6; i++) x[i] = (real)truth[i];
}

static double limit_of_y(void) { return golden_limit(2, 1e-6, OPERATOR, IS_DOUBLE); }

/* ---- the limits -------------------------------------------------------------------------------- */

static void limits_are_the_documented_ones(void **state) {
    (void)state;
    assert_true(golden_limit(5, 1, OPERATOR, true) == 5e-12);
    assert_true(golden_limit(5, 1, MODULE, true) == 5e-10);
    assert_true(golden_limit(5, 1, PIPELINE, true) == 5e-8);
    /* an ulp of 3.0f is 2^-22; the station makes no difference to the float build */
    assert_true(golden_limit(3, 1e-6, OPERATOR, false) == 2 * 1e-6 * 3 + ldexp(4, -22));
    assert_true(golden_limit(3, 1e-6, PIPELINE, false) == golden_limit(3, 1e-6, OPERATOR, false));
    assert_true(golden_limit(0, 1e-6, OPERATOR, false) == 0);
    assert_true(golden_limit(0, 1e-6, OPERATOR, true) == 0);
    assert_false(1 <= golden_limit(1, (double)NAN, OPERATOR, false));
}

/* ---- verdicts ---------------------------------------------------------------------------------- */

static void passes_what_is_right(void **state) {
    (void)state;
    Golden *g = make_golden();
    real x[6];
    exact(x);
    Verdict v = golden_compare(g, "y", x, 2, shape, OPERATOR);
    assert_true(v.ok);
    assert_int_equal(v.count, 6);
    assert_true(v.error == 0 && v.largest == 2 && v.limit == limit_of_y());
    x[4] += (real)(limit_of_y() / 2);
    assert_true(golden_compare(g, "y", x, 2, shape, OPERATOR).ok);
    drop(g);
}

static void fails_what_is_off_by_three_limits(void **state) {
    (void)state;
    Golden *g = make_golden();
    for (int at = 0; at < 6; at++)
        for (int sign = -1; sign <= 1; sign += 2) {
            real x[6];
            exact(x);
            x[at] += (real)(3 * sign * limit_of_y());
            Verdict v = golden_compare(g, "y", x, 2, shape, OPERATOR);
            assert_false(v.ok);
            assert_int_equal(v.worst, at);
        }
    drop(g);
}

static void names_the_worst_element(void **state) {
    (void)state;
    Golden *g = make_golden();
    real x[6];
    exact(x);
    x[2] = 3;
    x[3] = 2;
    Verdict v = golden_compare(g, "y", x, 2, shape, OPERATOR);
    assert_int_equal(v.worst, 2);
    const char *start = "made/y: element 2 of 6: got 3, truth 0.25: error 2.75 is over the limit ";
    assert_int_equal(strncmp(v.message, start, strlen(start)), 0);
    drop(g);
}

static void fails_nan_and_infinity(void **state) {
    (void)state;
    Golden *g = make_golden();
    const double bad[] = {(double)NAN, (double)INFINITY, -(double)INFINITY};
    for (int k = 0; k < 3; k++)
        for (int at = 0; at < 6; at++) {
            real x[6];
            exact(x);
            x[at] = (real)bad[k];
            x[0] += at ? (real)100 : 0; /* another error does not hide it */
            Verdict v = golden_compare(g, "y", x, 2, shape, OPERATOR);
            assert_false(v.ok);
            assert_int_equal(v.worst, at);
        }
    drop(g);
}

static void fails_another_shape(void **state) {
    (void)state;
    Golden *g = make_golden();
    real x[6];
    exact(x);
    Verdict v = golden_compare(g, "y", x, 2, (const int64_t[]){3, 2}, OPERATOR);
    assert_false(v.ok);
    assert_string_equal(v.message, "made/y: shape: expected [2, 3], got [3, 2]");
    assert_false(golden_compare(g, "y", x, 1, (const int64_t[]){6}, OPERATOR).ok);
    assert_false(golden_compare(g, "y", x, 3, (const int64_t[]){1, 2, 3}, OPERATOR).ok);
    drop(g);
}

static void fails_a_missing_name_and_an_empty_tensor(void **state) {
    (void)state;
    Golden *g = make_golden();
    real x[6];
    exact(x);
    Verdict v = golden_compare(g, "z", x, 2, shape, OPERATOR);
    assert_false(v.ok);
    assert_string_equal(v.message, "made/z: the golden has no such tensor");
    v = golden_compare(g, "y", NULL, 2, shape, OPERATOR);
    assert_false(v.ok);
    assert_string_equal(v.message, "made/y: got an empty tensor");
    v = golden_compare(g, "ids", x, 1, (const int64_t[]){3}, OPERATOR);
    assert_false(v.ok);
    drop(g);
}

static void wants_exact_zeros_where_the_truth_is_zero(void **state) {
    (void)state;
    Golden *g = make_golden();
    real x[6] = {0};
    x[3] = -x[3]; /* a negative zero is a zero */
    assert_true(golden_compare(g, "zero", x, 2, shape, OPERATOR).ok);
    x[5] = (real)1e-30;
    assert_false(golden_compare(g, "zero", x, 2, shape, OPERATOR).ok);
    drop(g);
}

static void wants_a_yardstick_in_float(void **state) {
    (void)state;
    static const char *const name[] = {"unmeasured", "nan", "negative", "text"};
    Golden *g = make_golden();
    for (int i = 0; i < 4; i++) {
        real x[6];
        exact(x);
        Verdict v = golden_compare(g, name[i], x, 2, shape, OPERATOR);
        char message[64];
        snprintf(message, sizeof message, "made/%s: the golden has no yardstick for it", name[i]);
        assert_int_equal(v.ok, IS_DOUBLE);
        assert_string_equal(v.message, IS_DOUBLE ? "" : message);
    }
    drop(g);
}

static void takes_one_number_for_a_scalar(void **state) {
    (void)state;
    Golden *g = make_golden();
    const real x[2] = {3, 3};
    assert_true(golden_compare(g, "one", x, 1, (const int64_t[]){1}, OPERATOR).ok);
    assert_false(golden_compare(g, "one", x, 1, (const int64_t[]){2}, OPERATOR).ok);
    drop(g);
}

/* ---- goldens ----------------------------------------------------------------------------------- */

static void knows_when_nothing_was_compared(void **state) {
    (void)state;
    Golden *g = make_golden();
    assert_true(golden_blind(g));
    real x[6];
    exact(x);
    golden_check_data(g, "y", x, 2, shape, OPERATOR);
    assert_false(golden_blind(g));
    golden_close(g);
}

static void gives_inputs_ids_and_numbers(void **state) {
    (void)state;
    Golden *g = make_golden();
    Context ctx = {0};
    Tensor y = golden_tensor(g, &ctx, "y"), one = golden_tensor(g, &ctx, "one");
    assert_int_equal(y.ndim, 2);
    assert_int_equal(y.dim[1], 3);
    for (int i = 0; i < 6; i++) assert_true((double)y.data[i] == truth[i]);
    assert_int_equal(one.ndim, 1);
    assert_true(one.data[0] == 3);
    int64_t n;
    const int64_t *ids = golden_ids(g, "ids", &n);
    assert_int_equal(n, 3);
    assert_int_equal(ids[2], 7);
    assert_true(golden_number(g, "eps") == 1e-5);
    Weight w = golden_weight(g, "y");
    assert_int_equal(w.dtype, DTYPE_F64);
    assert_int_equal(w.dim[0], 2);
    assert_int_equal(w.dim[3], 1);
    assert_string_equal(w.name, "y");
    context_free(&ctx);
    drop(g);
}

static void observer_checks_what_the_golden_holds(void **state) {
    (void)state;
    Golden *g = make_golden();
    GoldenObserver self = {.golden = g, .prefix = "case/", .station = MODULE};
    Observer o = golden_observer(&self);
    real x[6];
    exact(x);
    o.see(o.self, "not in the golden", x, 2, shape);
    assert_int_equal(self.compared, 0);
    o.see(o.self, "seen", x, 2, shape);
    assert_int_equal(self.compared, 1);
    assert_false(golden_blind(g));
    golden_close(g);
}

static void reports_to_a_file(void **state) {
    (void)state;
    Golden *g = make_golden();
    real x[6];
    exact(x);
    assert_int_equal(setenv("LLMDIFF_REPORT", scratch("report"), 1), 0);
    golden_check_data(g, "y", x, 2, shape, MODULE);
    golden_check_data(g, "y", x, 2, shape, MODULE);
    assert_int_equal(unsetenv("LLMDIFF_REPORT"), 0);
    golden_close(g);
    char line[256] = "";
    FILE *fp = fopen(scratch("report"), "r");
    assert_non_null(fp);
    assert_non_null(fgets(line, sizeof line, fp));
    const char *start = REAL_NAME " module made/y 0 1e-06 ";
    assert_int_equal(strncmp(line, start, strlen(start)), 0);
    assert_non_null(fgets(line, sizeof line, fp));
    assert_null(fgets(line, sizeof line, fp));
    fclose(fp);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(limits_are_the_documented_ones),
        cmocka_unit_test(passes_what_is_right),
        cmocka_unit_test(fails_what_is_off_by_three_limits),
        cmocka_unit_test(names_the_worst_element),
        cmocka_unit_test(fails_nan_and_infinity),
        cmocka_unit_test(fails_another_shape),
        cmocka_unit_test(fails_a_missing_name_and_an_empty_tensor),
        cmocka_unit_test(wants_exact_zeros_where_the_truth_is_zero),
        cmocka_unit_test(wants_a_yardstick_in_float),
        cmocka_unit_test(takes_one_number_for_a_scalar),
        cmocka_unit_test(knows_when_nothing_was_compared),
        cmocka_unit_test(gives_inputs_ids_and_numbers),
        cmocka_unit_test(observer_checks_what_the_golden_holds),
        cmocka_unit_test(reports_to_a_file),
    };
    return cmocka_run_group_tests(tests, scratch_make, scratch_remove);
}
