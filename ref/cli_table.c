/* Every option of every command, one row each: what reads a command line, fills in defaults and
 * prints the help. Letters are stable-diffusion.cpp's, long names diffusers'. */
#include "ref/cli.h"

#include <stddef.h>

#define AT(field) offsetof(Options, field)
#define TEXT(field, value) OPTION_TEXT, AT(field), value
#define SWITCH(field) OPTION_SWITCH, AT(field), NULL
#define WHOLE(field) OPTION_WHOLE, AT(field), "N"
#define NUMBER(field) OPTION_NUMBER, AT(field), "X"

#define PROMPT (GENERATE | ENCODE | TOKENIZE)
#define RUN (GENERATE | ENCODE)
#define ALL (GENERATE | ENCODE | TOKENIZE | INFO | INIT_ADAPTER | COMPARE | VERIFY)
#define REPORT (COMPARE | VERIFY)

/* The last columns: default; least and greatest number; constant; help. */
const Option option_table[] = {
    {PROMPT, "Prompt", 'p', "prompt", TEXT(prompt, "TEXT"), NULL, 0, 0, NULL,
     "the prompt; \"\" is valid: the begin token alone"},
    {PROMPT, "Prompt", 0, "prompt-file", TEXT(prompt_file, "FILE"), NULL, 0, 0, NULL,
     "the prompt is all of FILE (- for standard input),\nbut for one newline at its end"},
    {GENERATE, "Prompt", 'n', "negative-prompt", TEXT(negative_prompt, "TEXT"), "", 0, 0, NULL,
     "what guidance leads away from"},

    {PROMPT, "Models", 'm', "model", TEXT(model, "DIR"), "weights/tiny", 0, 0, NULL,
     "the pack: llm/ unet/ vae/ scheduler/ adapter/\n"},
    {INIT_ADAPTER, "Models", 'm', "model", TEXT(model, "DIR"), NULL, 0, 0, NULL,
     "a pack with llm/ and unet/"},
    {PROMPT | INIT_ADAPTER, "Models", 0, "llm", TEXT(llm, "DIR"), NULL, 0, 0, NULL,
     "this LLM and its tokenizer in place of the pack's"},
    {GENERATE | INIT_ADAPTER, "Models", 0, "unet", TEXT(unet, "DIR"), NULL, 0, 0, NULL,
     "this U-Net in place of the pack's"},
    {GENERATE, "Models", 0, "vae", TEXT(vae, "DIR"), NULL, 0, 0, NULL,
     "this VAE in place of the pack's"},
    {RUN, "Models", 0, "adapter", TEXT(adapter, "DIR"), NULL, 0, 0, NULL,
     "this adapter in place of the pack's"},

    {GENERATE, "Models", 0, "text-encoder", TEXT(text_encoder, "DIR"), NULL, 0, 0, NULL,
     "this CLIP in place of the pack's"},
    {GENERATE, "Models", 0, "tokenizer", TEXT(tokenizer, "DIR"), NULL, 0, 0, NULL,
     "this tokenizer of CLIP in place of the pack's"},
    {GENERATE, "Models", 0, "conditioner", TEXT(conditioner, "NAME"), "llmdiff", 0, 0, NULL,
     "llmdiff: LLM and adapter; clip: the pack's\ntext_encoder/ and tokenizer/, as in plain "
     "Stable\n"
     "Diffusion\n"},

    {GENERATE, "Picture", 'W', "width", WHOLE(width), NULL, 1, 65536, NULL,
     "in pixels, a multiple of the VAE's factor\n(default: the pack's)"},
    {GENERATE, "Picture", 'H', "height", WHOLE(height), NULL, 1, 65536, NULL,
     "in pixels, a multiple of the VAE's factor\n(default: the pack's)"},
    {GENERATE, "Picture", 's', "seed", WHOLE(seed), "42", 0, 0, NULL,
     "as in torch.manual_seed; negative: random, printed\n"},
    {ENCODE, "Encoding", 's', "seed", WHOLE(seed), "42", 0, 0, NULL,
     "of the Langevin noise; negative: random, printed\n"},
    {INIT_ADAPTER, "Adapter", 's', "seed", WHOLE(seed), "42", 0, 0, NULL,
     "of what is not copied; negative: random, printed\n"},
    {GENERATE, "Picture", 0, "sampling-method", TEXT(sampling_method, "NAME"), NULL, 0, 0, NULL,
     "ddpm, ddim, pndm, euler, euler_a or dpm++2m\n(default: the pack's)"},
    {GENERATE, "Picture", 0, "steps", WHOLE(steps), "20", 1, INT64_MAX, NULL, "of the sampler"},
    {GENERATE, "Picture", 0, "cfg-scale", NUMBER(cfg_scale), "7.5", 0, 0, NULL,
     "guidance; 1: none, the negative prompt is not read\n"},
    {GENERATE, "Picture", 0, "eta", NUMBER(eta), "0", 0, 1, NULL,
     "how much noise DDIM adds, from 0 to 1"},
    {GENERATE, "Picture", 0, "clip-skip", WHOLE(clip_skip), "0", 0, 1000, NULL,
     "with CLIP: last blocks left out for the prompt\n"},
    {GENERATE, "Picture", 'b', "batch-count", WHOLE(batch_count), "1", 1, 10000, NULL,
     "how many pictures: output.png, output_2.png, ...,\neach with the next seed"},

    {GENERATE, "From a picture", 'i', "init-img", TEXT(init_image, "FILE"), NULL, 0, 0, NULL,
     "a PNG or JPEG to begin from, resized to the size\nasked for"},
    {GENERATE, "From a picture", 0, "strength", NUMBER(strength), NULL, 0, 1, NULL,
     "how far to go from it, more than 0 to 1\n(default 0.8, with --mask 1)"},
    {GENERATE, "From a picture", 0, "mask", TEXT(mask, "FILE"), NULL, 0, 0, NULL,
     "a PNG or JPEG: redraw where it is white, keep the\nrest"},

    {RUN | INIT_ADAPTER, "Method", 0, "set", OPTION_SET, 0, "KEY=VALUE", NULL, 0, 0, NULL,
     "a choice of the adapter's config.json, such as\nword_score=false; repeatable; llmdiff info "
     "PACK\nlists them"},
    {RUN, "Method", 0, "no-langevin-noise", OPTION_SET, 0, NULL, NULL, 0, 0, "noise=false",
     "the same as --set noise=false"},

    {GENERATE, "Files", 'o', "output", TEXT(output, "FILE"), "output.png", 0, 0, NULL,
     "the picture, a PNG with its settings as text\n"},
    {ENCODE, "Files", 'o', "output", TEXT(output, "FILE"), "encoding.safetensors", 0, 0, NULL,
     "the encoding c [N, D] (alg1/c.0) and the token ids\n(ids), as safetensors\n"},
    {INIT_ADAPTER, "Files", 'o', "output", TEXT(output, "DIR"), NULL, 0, 0, NULL,
     "where the adapter goes; created"},
    {GENERATE, "Files", 0, "init-latents", TEXT(init_latents, "FILE"), NULL, 0, 0, NULL,
     "the first latents, of unit variance: npy or\nsafetensors, [C, height / factor, width / "
     "factor]"},
    {GENERATE, "Files", 0, "save-latents", TEXT(save_latents, "FILE"), NULL, 0, 0, NULL,
     "the final latents: .npy or .safetensors"},
    {GENERATE, "Files", 0, "preview-every", WHOLE(preview_every), NULL, 1, 1000000, NULL,
     "every N steps the picture so far, as\noutput_step3.png"},
    {RUN, "Files", 0, "noise", TEXT(noise, "FILE"), NULL, 0, 0, NULL,
     "every random draw, under its name in a trace:\nsafetensors"},
    {RUN, "Files", 0, "trace", TEXT(trace, "FILE"), NULL, 0, 0, NULL,
     "every activation by its name, in the order of\nexecution: safetensors"},
    {RUN, "Files", 0, "trace-only", TEXT(trace_only, "REGEX"), NULL, 0, 0, NULL,
     "of these the names in which it matches, such as\n'^unet/0/' or '/attn2$'"},
    {RUN, "Files", 0, "force", TEXT(force, "FILE"), NULL, 0, 0, NULL,
     "a trace: every stage starts from its values, in\nplace of those computed"},

    {COMPARE, "Comparing", 0, "only", TEXT(only, "REGEX"), NULL, 0, 0, NULL,
     "tensors whose name in REF it matches (as grep -E)"},
    {COMPARE, "Comparing", 0, "rtol", NUMBER(rtol), NULL, 0, INT64_MAX, NULL,
     "error allowed, relative to the tensor's largest"},
    {COMPARE, "Comparing", 0, "atol", NUMBER(atol), NULL, 0, INT64_MAX, NULL,
     "error allowed, absolute, beside --rtol\n(default: by REF's yardsticks, or by stored type)"},
    {COMPARE, "Comparing", 0, "kit", TEXT(kit, "DIR"), NULL, 0, 0, NULL,
     "golden/kit: its tolerances, by name, and hints as\nwith -m"},
    {COMPARE, "Comparing", 'm', "model", TEXT(model, "DIR"), NULL, 0, 0, NULL,
     "the pack that REF, a trace, was made with: hints\nby running the stage again with known "
     "mistakes"},
    {COMPARE, "Comparing", 0, "map", TEXT(map, "FILE"), NULL, 0, 0, NULL,
     "other names in MINE: JSON {\"theirs\": \"ours\"}; a *\nstands for any text"},
    {VERIFY, "Verifying", 0, "kit", TEXT(kit, "DIR"), NULL, 0, 0, NULL, "the kit: golden/kit"},
    {VERIFY, "Verifying", 0, "port", TEXT(port, "DIR"), NULL, 0, 0, NULL,
     "a port's outputs: operators, modules,\npicture.free, ... as .safetensors or .npz\n(default: "
     "this program's own are computed)"},
    {VERIFY, "Verifying", 0, "only", TEXT(only, "REGEX"), NULL, 0, 0, NULL,
     "outputs that it matches, as grep -E does:\n^operators/rope, ^modules/unet, "
     "^picture.forced/"},
    {VERIFY, "Verifying", 0, "free", SWITCH(free_alone), NULL, 0, 0, NULL,
     "of the walks the one from the prompt alone"},
    {VERIFY, "Verifying", 0, "forced", SWITCH(forced_alone), NULL, 0, 0, NULL,
     "of the walks the one alone in which every stage\nstarts from the truth's input"},
    {VERIFY, "Output", 'o', "output", TEXT(output, "DIR"), NULL, 0, 0, NULL,
     "write our own outputs as a port does; created"},
    {REPORT, "Output", 0, "all", SWITCH(all_rows), NULL, 0, 0, NULL, "every row of a long table"},
    {REPORT, "Output", 0, "json", TEXT(json, "FILE"), NULL, 0, 0, NULL,
     "the report as JSON; -: to standard output,\nin place of the table"},
    {REPORT, "Output", 0, "html", TEXT(html, "FILE"), NULL, 0, 0, NULL,
     "the report as a page: errors along the network,\nthe worst tensor as a heat map"},
    {REPORT, "Output", 0, "svg", TEXT(svg, "FILE"), NULL, 0, 0, NULL,
     "the errors along the network as a picture"},

    {INFO, "Output", 0, "tensors", SWITCH(tensors), NULL, 0, 0, NULL,
     "list every tensor of a directory"},
    {GENERATE, "Other", 0, "vae-tiling", SWITCH(vae_tiling), NULL, 0, 0, NULL,
     "the VAE in overlapping tiles, for large pictures"},
    {RUN | VERIFY, "Other", 't', "threads", WHOLE(threads), NULL, 1, 1024, NULL,
     "results don't depend on it\n(default: as OpenMP decides)"},
    {GENERATE, "Other", 'v', "verbose", SWITCH(verbose), NULL, 0, 0, NULL,
     "settings, time of every stage, peak memory"},
    {RUN, "Other", 0, "quiet", SWITCH(quiet), NULL, 0, 0, NULL, "no progress, notes or warnings"},
    {ALL, "Other", 'h', "help", SWITCH(help), NULL, 0, 0, NULL, "print this"},
};
const size_t option_count = sizeof option_table / sizeof option_table[0];

const Command command_table[] = {
    {GENERATE,
     "generate",
     "-p TEXT [options]",
     {0},
     "draw a picture from a prompt",
     run_generate,
     NULL},
    {ENCODE,
     "encode",
     "-p TEXT [options]",
     {0},
     "write a prompt's text encoding c (Algorithm 1)",
     run_encode,
     NULL},
    {TOKENIZE,
     "tokenize",
     "-p TEXT [options]",
     {0},
     "print a prompt's token ids and pieces",
     run_tokenize,
     NULL},
    {INFO,
     "info",
     "DIR|FILE [options]",
     {"DIR|FILE"},
     "show what is in a pack, a part of one, or a file",
     run_info,
     NULL},
    {INIT_ADAPTER,
     "init-adapter",
     "-m PACK -o DIR [options]",
     {0},
     "write a fresh adapter for an LLM and a U-Net",
     run_init_adapter,
     NULL},
    {COMPARE,
     "compare",
     "REF MINE [options]",
     {"REF", "MINE"},
     "compare two programs' tensors, and name where they first differ",
     run_compare,
     "0 match, 1 mismatch, 2 wrong usage, 3 a tensor missing or of\n"
     "another shape, or a file that can't be read, 4 not finite (NaN, infinity),\n"
     "130 cancelled"},
    {VERIFY,
     "verify",
     "--kit DIR [--port DIR] [options]",
     {0},
     "judge a port's tensors, or this program's, by the kit",
     run_verify,
     "0 match, 1 mismatch, 2 wrong usage, 3 a tensor missing or of\n"
     "another shape, or a file that can't be read, 4 not finite (NaN, infinity),\n"
     "130 cancelled"},
};
const size_t command_count = sizeof command_table / sizeof command_table[0];
