"""The strings whose ids are compared: export_tokenizer.py asks for strings().

Bytes, because some are not UTF-8. No code point that Unicode 16 leaves unassigned occurs among the
characters drawn at random: a newer utf8proc may know it, and then splits words around it elsewhere.
"""

import random
import re

from tokenizers import Regex, pre_tokenizers

SENTENCES = """\
All human beings are born free and equal in dignity and rights.
Alle Menschen sind frei und gleich an Würde und Rechten geboren; das heißt: groß geschrieben.
Tous les êtres humains naissent libres et égaux en dignité et en droits — n'est-ce pas ?
Todos los seres humanos nacen libres e iguales en dignidad y derechos. ¿Verdad? ¡Sí!
Todos os seres humanos nascem livres e iguais em dignidade e em direitos, não é?
Wszyscy ludzie rodzą się wolni i równi pod względem swej godności i swych praw.
Všichni lidé rodí se svobodní a sobě rovní co do důstojnosti a práv.
Bütün insanlar hür, haysiyet ve haklar bakımından eşit doğarlar. İstanbul ılık.
Tất cả mọi người sinh ra đều được tự do và bình đẳng về nhân phẩm và quyền.
Allir menn eru bornir frjálsir og jafnir öðrum að virðingu og réttindum. Þetta er ég.
Все люди рождаются свободными и равными в своем достоинстве и правах.
Всі люди народжуються вільними і рівними у своїй гідності та правах. Їжак, ґанок.
Όλοι οι άνθρωποι γεννιούνται ελεύθεροι και ίσοι στην αξιοπρέπεια και τα δικαιώματα.
Բոլոր մարդիկ ծնվում են ազատ ու հավասար իրենց արժանապատվությամբ ու իրավունքներով։
ყველა ადამიანი იბადება თავისუფალი და თანასწორი თავისი ღირსებითა და უფლებებით.
כל בני האדם נולדו בני חורין ושווים בערכם ובזכויותיהם. שָׁלוֹם
يولد جميع الناس أحرارا متساوين في الكرامة والحقوق. السَّلَامُ عَلَيْكُمْ ١٢٣
تمام افراد بشر آزاد به دنیا می‌آیند و از لحاظ حیثیت و حقوق با هم برابرند. ۴۵۶
सभी मनुष्यों को गौरव और अधिकारों के मामले में जन्मजात स्वतन्त्रता और समानता प्राप्त है। १२३
সমস্ত মানুষ স্বাধীনভাবে সমান মর্যাদা এবং অধিকার নিয়ে জন্মগ্রহণ করে।
மனிதப் பிறிவியினர் சகலரும் சுதந்திரமாகவே பிறக்கின்றனர்.
ప్రతిపత్తిస్వత్వముల విషయమున మానవులెల్లరును జన్మతః స్వతంత్రులును సమానులును నగుదురు.
ಎಲ್ಲಾ ಮಾನವರೂ ಸ್ವತಂತ್ರರಾಗಿಯೇ ಜನಿಸಿದ್ದಾರೆ.
മനുഷ്യരെല്ലാവരും തുല്യാവകാശങ്ങളോടും അന്തസ്സോടും സ്വാതന്ത്ര്യത്തോടുംകൂടി ജനിച്ചിട്ടുള്ളവരാണ്.
ගෞරවයෙන් හා අයිතිවාසිකම්වලින් සමාන වූ සියලු මනුෂ්‍යයෝ නිදහස්ව උපත ලබති.
มนุษย์ทั้งหลายเกิดมามีอิสระและเสมอภาคกันในเกียรติศักดิ์และสิทธิ ๑๒๓
ມະນຸດເກີດມາມີສິດເສລີພາບ ແລະສະເໝີໜ້າກັນ
မြန်မာ လူတိုင်းသည် တူညီ လွတ်လပ်သော ဂုဏ်သိက္ခာဖြင့် မွေးဖွားလာသူများ ဖြစ်သည်။
មនុស្សទាំងអស់កើតមកមានសេរីភាព និងសមភាព
འགྲོ་བ་མིའི་རིགས་རྒྱུད་ཡོངས་ལ་སྐྱེས་ཙམ་ཉིད་ནས་ཆེ་མཐོངས་དང༌།
人人生而自由，在尊严和权利上一律平等。他们赋有理性和良心。
人人生而自由，在尊嚴和權利上一律平等。㐀𠀀𪜶
すべての人間は、生まれながらにして自由であり、かつ、尊厳と権利とについて平等である。カタカナ ﾊﾝｶｸ
모든 인간은 태어날 때부터 자유로우며 그 존엄과 권리에 있어 동등하다. 한글
Хүн бүр төрж мэндлэхдээ эрх чөлөөтэй ᠬᠦᠮᠦᠨ ᠪᠦᠷ
ሁሉም የሰው ልጆች ነጻ ሆነው ተወልደዋል። ፩፪፫
ᏂᎦᏓ ᎠᏂᏴᏫ ᏂᎨᎫᏓᎸᎾ ᎠᎴ ᎤᏂᏠᏱ ᎤᎾᏕᎿ
ᐃᓅᔪᓕᒫᑦ ᐊᓂᖅᑎᕆᔪᓂ ᓱᖑᓪᓗᑎᒃ
ⵉⵎⴷⴰⵏⵏ ᚠᚢᚦᚨᚱᚲ 𐌰𐌻𐌻𐌰𐌹 𐎠𐎡 𒀀𒀁 𓀀𓀁 𞤀𞤣𞤤𞤢𞤥
""".splitlines()

CODE = [
    "def f(x, *, y=None):\n    if x is None:\n        return {'a': [1, 2.5e-3, 0xFF]}\n    return x ** 2  # square\n",
    "for (size_t i = 0; i < n; i++) {\n\tsum += a[i] * b[i]; /* dot */\n}\n\n\treturn sum;\n",
    "#include <stdio.h>\r\nint main(void)\r\n{\r\n    printf(\"%d\\n\", 42);\r\n    return 0;\r\n}\r\n",
    "<div class=\"a b\">&nbsp;<br/><!-- x --></div>",
    "{\"key\": [true, false, null, -1.5E+10], \"t\\u00e9st\": \"\\\"\"}",
    "all: a.o b.o\n\t$(CC) -o $@ $^ $(LDLIBS)\n\n.PHONY: all\n",
    "SELECT * FROM t WHERE a='x''y' AND b<>3; -- don't",
    "fn main() -> Result<(), Box<dyn Error>> { let x = vec![1u8; 10]; Ok(()) }",
    "https://example.org/a/b_c-d?x=1&y=%20#frag me@example.org C:\\dir\\file.txt",
    "x=1;y=2 ;z = 3\t;\t\tw\n\n\n\n    q",
    "                class A:\n\n\n                        pass\n",
    "a+b-c*d/e%f^g&h|i~j!k=l<m>n?o:p;q,r.s@t#u$v`w\"x'y\\z(a)[b]{c}",
    "snake_case camelCase PascalCase SCREAMING_CASE kebab-case x2y3z4 v1.2.3-rc4",
]

EMOJI = """👍 👍🏽 👩‍👩‍👧‍👦 👨‍💻 🏳️‍🌈 🏴‍☠️ 🇩🇪🇫🇷 1️⃣ ☺️ ❤️‍🔥 🏴󠁧󠁢󠁥󠁮󠁧󠁿 🫠 🧑🏿‍🤝‍🧑🏻 ⌚︎ ㊗️ 🅰️ ™ © ® ‼️""".split()
SPECIAL = ["<|endoftext|>", "<|endoftext", "endoftext|>", "<|ENDOFTEXT|>", "<|endoftext|><|endoftext|>", "<|im_start|>"]
WHITE = [chr(c) for c in [9, 10, 11, 12, 13, 32, 0x85, 0xA0, 0x1680, *range(0x2000, 0x200B), 0x2028, 0x2029, 0x202F, 0x205F, 0x3000]]
NEARLY_WHITE = [chr(c) for c in (0x1C, 0x1D, 0x1E, 0x1F, 0x180E, 0x200B, 0x200C, 0x200D, 0x2060, 0xFEFF, 0x2800, 0x3164)]
EDGES = [chr(c) for c in (0, 1, 0x7F, 0x80, 0x7FF, 0x800, 0xD7FF, 0xE000, 0xFFFD, 0xFFFE, 0xFFFF, 0x10000, 0x10FFFF)]
DIGITS = ["7", "42", "2024", "1,234.56", "3.14159", "1e10", "٣٤", "४२", "４２", "Ⅻ", "ⅳ", "½", "²³", "①", "㉛", "一二三", "𝟘𝟙", "𐄇", "৳৪", "1st", "20th", "v2", "0x1F"]
MARKS = ["e\u0301", "é", "a\u0308\u0323", "n\u0303o", "Z\u0351\u036b\u0343\u0328a\u0321l\u0334", "\u0301x", " \u0301", "각", "\u1100\u1161\u11a8", "ﬁ", "Å", "ẛ̣", "\u0e01\u0e33", "\u0915\u094d\u0937"]
BROKEN = [b"\x80", b"\xff", b"\xc3", b"a\xc3", b"\xc3(", b"\xe2\x82", b"\xe2\x82x", b"\xe2(\xa1", b"\xf0\x9f\x92", b"\xf0\x9f\x92a", b"\xf0\x28\x8c\xbc",
          b"\xed\xa0\x80", b"\xed\xbf\xbf", b"\xed\xa0\xbd\xed\xb2\xa9", b"\xc0\x80", b"\xc1\xbf", b"\xe0\x80\xaf", b"\xe0\x9f\xbf", b"\xf0\x8f\xbf\xbf",
          b"\xf4\x90\x80\x80", b"\xf5\x80\x80\x80", b"\xf8\x88\x80\x80\x80", b"\xfe\xff", b"ok \xe2\x82\xac \xe2\x82 \xf0\x90 fin\xe9e", b"\x80" * 40]


def captions(r, n):
    colour = "red green blue yellow purple orange black white grey golden".split()
    shape = "circle square triangle star cross ring diamond heart house tree dog cat".split()
    place = ["to the left of", "to the right of", "above", "below", "on top of", "next to", "inside", "behind"]
    style = ["", ", oil painting", ", 4k, highly detailed", " -- studio light", " (masterpiece:1.2)", "; bokeh"]
    out = []
    for _ in range(n):
        out.append(f"{r.choice(['a', 'A', 'one', 'two', 'a small', 'a large'])} {r.choice(colour)} {r.choice(shape)} "
                   f"{r.choice(place)} a {r.choice(colour)} {r.choice(shape)}{r.choice(style)}")
    return out


def assigned():
    """Every code point that Oniguruma (the tokenizers library's patterns) knows as assigned."""
    split = pre_tokenizers.Split(Regex(r"\p{Cn}"), "removed")
    points = []
    for block in range(0, 0x110000, 0x100):
        if 0xD800 <= block < 0xE000 or block >= 0xF0000:
            continue
        text = "".join(map(chr, range(block, block + 0x100)))
        points.append([ord(c) for piece, _ in split.pre_tokenize_str(text) for c in piece])
    return [b for b in points if b]


def contractions():
    for tail in ("'s", "'t", "'re", "'ve", "'m", "'ll", "'d", "'S", "'T", "'RE", "'Ve", "'M", "'LL", "'D", "'x", "'r", "'v", "'l", "’s", "`s", "''s", "'s's", "'ss", "'tis"):
        for head in ("", "it", " ", "IT", "!", "3", "é", "it\n"):
            yield head + tail
        yield f"we {tail} it{tail}, it{tail} {tail}it"


def strings():
    r = random.Random("tokenizer strings")
    out = ["", " ", "  ", "\n", "a", "\0", "\0\0", "a\0b", " \0 ", "<|endoftext|>\0"]
    out += SENTENCES + CODE + EMOJI + SPECIAL + DIGITS + MARKS + EDGES
    out += [" ".join(EMOJI), "".join(EMOJI), " ".join(DIGITS), "".join(DIGITS), " ".join(MARKS), "".join(MARKS), "".join(EDGES), "a".join(EDGES)]
    out += [f"{chr(c)}" for c in range(0x100)] + [f"x{chr(c)} {chr(c)}{chr(c)}1{chr(c)}" for c in range(0x100)]
    out += list(contractions())
    for s in SPECIAL:
        out += ["a" + s + "b", " " + s + " ", s + s, "  " + s + "  c", "\n" + s + "\n\n"]
    for w in WHITE + NEARLY_WHITE:
        out += [w * 2, w * 3, "a" + w + "b", "a" + w * 2 + "b", "a " + w + " b", w + "a", "a" + w, "a" + w * 4, w + " 1", w + "'s", " " + w + "!"]
    out += [" " * n for n in range(70)] + ["\t" * n for n in range(24)]
    out += ["a" + " " * n + "b" for n in range(40)] + ["\t" * n + "b\n" + " " * n + "c" for n in range(14)]
    out += captions(r, 200)
    for block in assigned():
        drawn = [chr(r.choice(block)) for _ in range(10)]
        out.append("".join(c + r.choice(["", "", " ", "a", "1", "."]) for c in drawn))
    bits = WHITE + NEARLY_WHITE + [" "] * 20 + ["  ", "   ", "\t\t"] * 3 + SPECIAL + DIGITS + MARKS + EDGES + EMOJI + list(contractions())[:60] + list("abcdeghorst.,:;!?-_/'\"()<>|") * 3
    words = re.findall(r"\S+", " ".join(SENTENCES + CODE))
    for _ in range(500):
        out.append("".join(r.choice(bits) for _ in range(r.randrange(1, 16))))
    for _ in range(200):
        out.append(r.choice(["", " ", "\n"]).join(r.choice(r.choice([words, bits])) for _ in range(r.randrange(1, 9))))
    out += ["a" * 10000, "".join(r.choice("etaoinshrdlucm") for _ in range(10000)), " " * 10000, " ".join(r.choice(words) for _ in range(3000))[:10000], "好" * 3000]
    out = [s.encode() for s in out]
    for _ in range(200):
        out.append(bytes(r.choice([r.randrange(256), 0xE2, 0x82, 0xAC, 0xF0, 0x9F, 0xED, 0xA0, 0x80, 0x41, 0x20, 0xF4, 0x90, 0xC3, 0xA9]) for _ in range(r.randrange(1, 10))))
    return list(dict.fromkeys(out + BROKEN))  # each once
