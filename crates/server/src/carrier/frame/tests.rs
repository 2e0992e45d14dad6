use proptest::prelude::*;

use super::*;

const LIMITS: MessageLimits =
    MessageLimits { bytes_max: 4096, fragments_max: 8, ms_max: 1000, inflate_ratio_max: 64 };
const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// What a decoder told, owned.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Told {
    Text(Vec<u8>),
    Binary(Vec<u8>),
    Ping(Vec<u8>),
    Pong,
    Close(Option<u16>),
}

/// A client's frame.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    match payload.len() {
        len @ 0..126 => bytes.push(0x80 | len as u8),
        len @ 126..65_536 => {
            bytes.push(0x80 | 126);
            bytes.extend_from_slice(&(len as u16).to_be_bytes());
        }
        len => {
            bytes.push(0x80 | 127);
            bytes.extend_from_slice(&(len as u64).to_be_bytes());
        }
    }
    bytes.extend_from_slice(&MASK);
    bytes.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, key)| byte ^ key));
    bytes
}

/// Feeds `pieces` one by one; what was told, and how it ended.
fn feed<'a>(decoder: &mut Decoder, pieces: impl IntoIterator<Item = &'a [u8]>) -> (Vec<Told>, Option<Fault>) {
    let mut told = Vec::new();
    for piece in pieces {
        let mut piece = piece.to_vec();
        let mut rest = piece.as_mut_slice();
        while !rest.is_empty() {
            let (used, item) = match decoder.next(rest, &LIMITS, || 0) {
                Ok(read) => read,
                Err(fault) => return (told, Some(fault)),
            };
            told.extend(item.map(|item| match item {
                Item::Message { kind: Kind::Text, payload } => Told::Text(payload.into_owned()),
                Item::Message { kind: Kind::Binary, payload } => Told::Binary(payload.into_owned()),
                Item::Ping(payload) => Told::Ping(payload.into_owned()),
                Item::Pong => Told::Pong,
                Item::Close(code) => Told::Close(code),
            }));
            assert!(used > 0 && used <= rest.len(), "a decoder goes on");
            rest = &mut rest[used..];
        }
    }
    (told, None)
}

fn fault(bytes: &[u8]) -> u16 {
    let whole = feed(&mut Decoder::new(false), [bytes]).1;
    let by_byte = feed(&mut Decoder::new(false), bytes.chunks(1)).1;
    assert_eq!(whole, by_byte, "however the bytes are cut");
    whole.map_or(0, |fault| fault.code)
}

#[test]
fn a_message_in_one_piece_is_lent_and_not_copied() {
    let mut bytes = frame(0x81, b"hello");
    let mut decoder = Decoder::new(false);
    let (used, item) = decoder.next(&mut bytes, &LIMITS, || panic!("no clock is needed")).unwrap();
    assert_eq!(used, 11);
    assert_eq!(item, Some(Item::Message { kind: Kind::Text, payload: Cow::Borrowed(b"hello") }));
    assert!(!decoder.is_amid());
}

#[test]
fn a_control_frame_may_stand_inside_a_message_and_memory_is_freed_behind_it() {
    let bytes = [frame(0x01, "gr\u{fc}".as_bytes()), frame(0x89, b"?"), frame(0x80, b"n")].concat();
    let mut decoder = Decoder::new(false);
    let (told, fault) = feed(&mut decoder, [bytes.as_slice()]);
    assert_eq!((told, fault), (vec![Told::Ping(b"?".into()), Told::Text("gr\u{fc}n".into())], None));
    assert!(!decoder.is_amid());
}

#[test]
fn b1_reserved_bits_and_opcodes_are_refused() {
    for first in [0xc1, 0xa1, 0x91, 0xf1, 0x83, 0x84, 0x85, 0x86, 0x87, 0x8b, 0x8c, 0x8d, 0x8e, 0x8f] {
        assert_eq!(fault(&frame(first, b"x")), 1002, "{first:#x}");
    }
    // With deflate, RSV1 is for the first frame of a message only.
    for bytes in [frame(0xc9, b""), [frame(0x01, b"a"), frame(0xc0, b"b")].concat()] {
        assert_eq!(feed(&mut Decoder::new(true), [bytes.as_slice()]).1.unwrap().code, 1002);
    }
}

#[test]
fn b1_an_unmasked_frame_is_refused_by_its_second_byte() {
    assert_eq!(fault(&[0x81, 0x05]), 1002);
}

#[test]
fn b1_control_frames_are_short_and_whole() {
    assert_eq!(fault(&frame(0x89, &[b'x'; 125])), 0);
    assert_eq!(fault(&frame(0x89, &[b'x'; 126])), 1002);
    assert_eq!(fault(&frame(0x09, b"x")), 1002);
    assert_eq!(fault(&frame(0x08, b"")), 1002);
}

#[test]
fn b1_messages_do_not_nest_and_nothing_is_continued_that_has_not_begun() {
    assert_eq!(fault(&frame(0x80, b"x")), 1002);
    assert_eq!(fault(&[frame(0x01, b"a"), frame(0x81, b"b")].concat()), 1002);
}

#[test]
fn b1_a_length_is_written_in_the_shortest_way() {
    assert_eq!(fault(&[0x82, 0x80 | 126, 0, 125, 0, 0, 0, 0]), 1002);
    assert_eq!(fault(&[0x82, 0x80 | 127, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0, 0, 0, 0]), 1002);
}

#[test]
fn b1_close_codes_are_checked() {
    let close = |code: u16, reason: &[u8]| frame(0x88, &[&code.to_be_bytes(), reason].concat());
    for code in [1000, 1001, 1003, 1007, 1011, 1014, 3000, 4999] {
        let (told, fault) = feed(&mut Decoder::new(false), [close(code, b"bye").as_slice()]);
        assert_eq!((told, fault), (vec![Told::Close(Some(code))], None));
    }
    for code in [0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 65_535] {
        assert_eq!(fault(&close(code, b"")), 1002, "{code}");
    }
    assert_eq!(fault(&frame(0x88, &[3])), 1002);
    assert_eq!(fault(&close(1000, &[0xff])), 1007);
    assert_eq!(feed(&mut Decoder::new(false), [frame(0x88, b"").as_slice()]).0, [Told::Close(None)]);
}

#[test]
fn b1_text_fails_at_the_first_byte_that_cannot_become_utf8() {
    assert_eq!(fault(&frame(0x81, b"\xce\xba\xf4\x90\x80\x80")), 1007);
    // A character may be cut by fragments, and by the arrival of bytes.
    let cut = [frame(0x01, b"\xf0\x9f"), frame(0x00, b"\x94"), frame(0x80, b"\xa5")].concat();
    assert_eq!(feed(&mut Decoder::new(false), [cut.as_slice()]).0, [Told::Text("\u{1f525}".into())]);
    // In mid-frame: of ten bytes only five have arrived.
    let early = frame(0x01, b"ab\xed\xa0\x80fghij");
    assert_eq!(feed(&mut Decoder::new(false), [&early[..6 + 4]]).1.unwrap().code, 1007);
    // The end of the message is the end of the last character.
    assert_eq!(fault(&[frame(0x01, b"a\xe2"), frame(0x80, b"\x82")].concat()), 1007);
    assert_eq!(fault(&frame(0x82, b"\xff\xff")), 0);
}

#[test]
fn b2_a_huge_length_is_refused_before_anything_is_kept_for_it() {
    for first in [0x81, 0x82, 0x02] {
        let mut bytes = [&[first, 0x80 | 127][..], &(i64::MAX as u64).to_be_bytes(), &MASK].concat();
        let mut decoder = Decoder::new(false);
        assert_eq!(decoder.next(&mut bytes, &LIMITS, || 0).unwrap_err().code, 1009);
        let kept = decoder.partial.and_then(|partial| partial.message);
        assert!(kept.is_none_or(|message| message.bytes.capacity() == 0));
    }
    assert_eq!(fault(&[0x82, 0xff, 0x80, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4]), 1002);
    let just = vec![0; LIMITS.bytes_max];
    assert_eq!(fault(&frame(0x82, &just)), 0);
    assert_eq!(fault(&frame(0x82, &[just.as_slice(), &[0]].concat())), 1009);
    assert_eq!(fault(&[frame(0x02, &just), frame(0x80, b"x")].concat()), 1009);
}

#[test]
fn b3_fragments_are_counted_even_when_they_are_empty() {
    let endless = |payload: &[u8]| {
        let mut bytes = frame(0x01, payload);
        for _ in 0..100 {
            bytes.extend(frame(0x00, payload));
        }
        fault(&bytes)
    };
    assert_eq!(endless(b""), 1009);
    assert_eq!(endless(b"x"), 1009);
}

#[test]
fn b3_b8_a_message_that_trickles_is_cut_off() {
    for mut bytes in [frame(0x81, b"slowly"), [frame(0x01, b""), frame(0x80, b"")].concat()] {
        let mut decoder = Decoder::new(false);
        let mut now_ms = 7;
        let mut fault = None;
        for byte in &mut bytes {
            now_ms += 400;
            if let Err(error) = decoder.next(std::slice::from_mut(byte), &LIMITS, || now_ms) {
                fault = Some(error);
                break;
            }
        }
        assert_eq!(fault.unwrap().code, 1008);
        assert!(now_ms <= 7 + 400 * 4);
    }
}

#[test]
fn b4_a_compressed_message_comes_back_and_a_bomb_does_not() {
    let text = "so it goes, ".repeat(40);
    let compressed = deflate::deflate(text.as_bytes()).unwrap();
    assert!(compressed.len() < text.len() / 2);
    let bytes = frame(0xc1, &compressed);
    assert_eq!(feed(&mut Decoder::new(true), [bytes.as_slice()]).0, [Told::Text(text.clone().into())]);
    let bytes = [frame(0x41, &compressed[..5]), frame(0x80, &compressed[5..])].concat();
    assert_eq!(feed(&mut Decoder::new(true), bytes.chunks(3)).0, [Told::Text(text.into())]);

    // More than a message may be, and more than its size allows.
    let bomb = deflate::deflate(&vec![0; 8 << 20]).unwrap();
    let limits = MessageLimits { bytes_max: 1 << 20, ..LIMITS };
    assert_eq!(deflate::inflate(&bomb, &limits).unwrap_err().code, 1009);
    let steep = deflate::deflate(&vec![0; 100_000]).unwrap();
    assert_eq!(deflate::inflate(&steep, &limits).unwrap_err().code, 1009);
    let exact = MessageLimits { bytes_max: 100_000, inflate_ratio_max: 2000, ..LIMITS };
    assert_eq!(deflate::inflate(&steep, &exact).unwrap().len(), 100_000);
    let short = MessageLimits { bytes_max: 99_999, ..exact };
    assert_eq!(deflate::inflate(&steep, &short).unwrap_err().code, 1009);
}

#[test]
fn b4_what_is_no_deflate_is_refused() {
    for payload in [&[0xff; 8][..], &[0x06], b"plain text"] {
        let bytes = frame(0xc2, payload);
        assert_eq!(feed(&mut Decoder::new(true), [bytes.as_slice()]).1.unwrap().code, 1007, "{payload:?}");
    }
    let compressed = deflate::deflate(&[0xfe; 300]).unwrap();
    let bytes = frame(0xc1, &compressed);
    assert_eq!(feed(&mut Decoder::new(true), [bytes.as_slice()]).1.unwrap().code, 1007);
}

#[test]
fn b5_two_messages_share_no_compressor_state() {
    let secret = format!("{{\"secret\":\"{}\"}}", "0123456789abcdef".repeat(30));
    let alone = deflate::deflate(secret.as_bytes()).unwrap();
    let after = deflate::deflate(secret.as_bytes()).unwrap();
    assert_eq!(alone, after, "the second learned nothing from the first");
}

#[test]
fn what_the_server_writes_has_the_shortest_header() {
    for (len, header) in [(0, 2), (125, 2), (126, 4), (65_535, 4), (65_536, 10)] {
        let mut out = Vec::new();
        write_message(&mut out, Kind::Binary, &vec![1; len], false);
        assert_eq!(out.len(), header + len);
        assert_eq!(out[0], 0x82);
    }
    let mut out = Vec::new();
    write_close(&mut out, Some(3501), &"\u{fc}".repeat(100));
    assert_eq!(out.len(), 2 + 2 + 122, "cut at a character");
}

/// Anything that a client may rightly send, as frames; and what should be told.
fn conversation() -> impl Strategy<Value = (Vec<u8>, Vec<Told>)> {
    let text = prop_oneof!["\\PC{0,40}", "[a-z]{200,400}"].prop_map(String::into_bytes);
    let message = prop_oneof![
        (text, prop::collection::vec(any::<prop::sample::Index>(), 0..4)).prop_map(|(text, cuts)| {
            let told = Told::Text(text.clone());
            (fragments(0x01, &text, &cuts), told)
        }),
        (
            prop::collection::vec(any::<u8>(), 0..300),
            prop::collection::vec(any::<prop::sample::Index>(), 0..4)
        )
            .prop_map(|(bytes, cuts)| (fragments(0x02, &bytes, &cuts), Told::Binary(bytes))),
        prop::collection::vec(any::<u8>(), 0..=125)
            .prop_map(|bytes| (frame(0x89, &bytes), Told::Ping(bytes.clone()))),
        Just((frame(0x8a, b"pong"), Told::Pong)),
    ];
    prop::collection::vec(message, 0..12).prop_map(|messages| {
        let (bytes, told): (Vec<_>, Vec<_>) = messages.into_iter().unzip();
        (bytes.concat(), told)
    })
}

fn fragments(opcode: u8, payload: &[u8], cuts: &[prop::sample::Index]) -> Vec<u8> {
    let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(payload.len() + 1)).collect();
    cuts.sort_unstable();
    cuts.push(payload.len());
    let (mut from, mut bytes) = (0, Vec::new());
    for (at, &until) in cuts.iter().enumerate() {
        let fin = if at + 1 == cuts.len() { 0x80 } else { 0 };
        bytes.extend(frame(fin | if at == 0 { opcode } else { 0 }, &payload[from..until]));
        from = until;
    }
    bytes
}

proptest! {
    #[test]
    fn a_stream_means_the_same_however_it_is_cut(
        (bytes, expected) in conversation(),
        sizes in prop::collection::vec(1usize..50, 1..40),
    ) {
        let mut pieces = Vec::new();
        let (mut rest, mut size) = (bytes.as_slice(), sizes.iter().cycle());
        while !rest.is_empty() {
            let (piece, more) = rest.split_at((*size.next().unwrap()).min(rest.len()));
            pieces.push(piece);
            rest = more;
        }
        let mut decoder = Decoder::new(false);
        let (told, fault) = feed(&mut decoder, pieces);
        prop_assert_eq!((told, fault), (expected.clone(), None));
        prop_assert!(!decoder.is_amid());
        let whole = feed(&mut Decoder::new(false), [bytes.as_slice()]);
        prop_assert_eq!(whole, (expected, None));
    }

    #[test]
    fn any_bytes_at_all_are_an_answer_or_a_fault(
        bytes in prop::collection::vec(any::<u8>(), 0..600),
        cut in 1usize..64,
        deflate: bool,
    ) {
        let whole = feed(&mut Decoder::new(deflate), [bytes.as_slice()]);
        let cut = feed(&mut Decoder::new(deflate), bytes.chunks(cut));
        prop_assert_eq!(whole, cut);
    }

    #[test]
    fn damaged_frames_are_an_answer_or_a_fault(
        (mut bytes, _) in conversation(),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        for (at, byte) in damage {
            if !bytes.is_empty() {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
        }
        let whole = feed(&mut Decoder::new(true), [bytes.as_slice()]);
        let by_byte = feed(&mut Decoder::new(true), bytes.chunks(1));
        prop_assert_eq!(whole, by_byte);
    }

    #[test]
    fn deflate_comes_back(bytes in prop::collection::vec(0u8..8, 256..4000)) {
        if let Some(compressed) = deflate::deflate(&bytes) {
            let limits = MessageLimits { inflate_ratio_max: 2000, ..LIMITS };
            prop_assert_eq!(deflate::inflate(&compressed, &limits).unwrap(), bytes);
        }
    }
}
