//! One translator, many callers: none waits for another, and those that ask at the same time are
//! decoded together.

use std::sync::mpsc::channel;
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::Duration;
use tfm::{Device, Model, Options, Translator};

fn translator(options: &Options) -> Translator {
    Translator::new(&Model::bundled().unwrap(), Device::auto(), options).unwrap()
}

fn greedy() -> Options {
    Options::new().beams(1)
}

/// Runs `work` on a thread and fails if it hangs.
fn within<R: Send + 'static>(seconds: u64, work: impl FnOnce() -> R + Send + 'static) -> R {
    let (send, done) = channel();
    thread::spawn(move || send.send(work()));
    done.recv_timeout(Duration::from_secs(seconds)).expect("it hangs or has panicked")
}

#[test]
fn a_loop_over_a_stream_may_translate() {
    within(120, || {
        let translator = translator(&greedy());
        // More lines than a stream reads ahead.
        let lines = (0..4200).map(|_| Ok("Thank you.".to_owned()));
        let mut count = 0;
        for (number, translation) in translator.translate_lines(lines).enumerate() {
            let text = translation.unwrap().text;
            if number % 700 == 0 {
                assert_eq!(translator.translate("Thank you.").unwrap().text, text);
            }
            count += 1;
        }
        assert_eq!(count, 4200);
    });
}

#[test]
fn a_stream_whose_reader_waits_stops_nobody() {
    within(60, || {
        let translator = translator(&greedy());
        let (send, lines) = channel::<String>();
        let mut stream = translator.translate_lines(lines.into_iter().map(Ok));
        // The reader waits for a line now, and this thread does not wait for it.
        let text = translator.translate("Thank you.").unwrap().text;
        send.send("Thank you.".into()).unwrap();
        assert_eq!(stream.next().unwrap().unwrap().text, text);
        drop(send);
        assert!(stream.next().is_none());
    });
}

#[test]
fn the_iterator_of_lines_may_translate() {
    within(60, || {
        let translator = translator(&greedy());
        let inner = translator.clone();
        let lines = ["Thank you.", "The cat is sleeping."].into_iter();
        let lines = lines.map(move |line| {
            inner.translate(line).unwrap();
            Ok(line.to_owned())
        });
        assert_eq!(translator.translate_lines(lines).count(), 2);
    });
}

#[test]
fn dropped_streams_and_panics_leave_others_alone() {
    within(60, || {
        let translator = translator(&Options::default());
        let expected = translator.translate("The cat is sleeping.").unwrap().text;
        for round in 0..5 {
            let lines = (0..).map(|_| Ok("She has been living in Paris.".to_owned()));
            let mut endless = translator.translate_lines(lines);
            endless.next().unwrap().unwrap();
            let mut broken = translator.translate_lines((0..).map(|number| match number {
                3 => panic!("the caller's own fault"),
                _ => Ok("Thank you.".to_owned()),
            }));
            let streamed = translator.stream("She has been living in Paris for ten years.");
            if round % 2 == 0 {
                drop(streamed);
            } else {
                let mut streamed = streamed.unwrap();
                streamed.next().unwrap();
                streamed.cancel();
            }
            assert_eq!(broken.by_ref().take_while(Result::is_ok).count(), 3);
            assert!(broken.next().is_none(), "an error is the last item");
            assert_eq!(translator.translate("The cat is sleeping.").unwrap().text, expected);
        }
    });
}

#[test]
fn threads_are_decoded_together() {
    within(60, || {
        let translator = translator(&Options::default());
        let texts = ["The cat is sleeping.", "Thank you.", "Where is the station?", "I am happy."];
        let expected: Vec<String> =
            translator.translate_batch(&texts).unwrap().into_iter().map(|t| t.text).collect();
        let before = translator.stats().steps;
        let alone = {
            texts.iter().for_each(|text| drop(translator.translate(text).unwrap()));
            translator.stats().steps - before
        };
        let start = Arc::new(Barrier::new(16));
        let threads: Vec<_> = (0..16)
            .map(|number| {
                let (translator, start) = (translator.clone(), start.clone());
                thread::spawn(move || {
                    start.wait();
                    translator.translate(texts[number % 4]).unwrap().text
                })
            })
            .collect();
        let found: Vec<String> = threads.into_iter().map(|t| t.join().unwrap()).collect();
        for (number, text) in found.iter().enumerate() {
            assert_eq!(*text, expected[number % 4]);
        }
        let together = translator.stats().steps - before - alone;
        assert!(together < 3 * alone, "{together} steps for 16 sentences, {alone} for 4 alone");
    });
}

#[test]
fn other_options_share_the_workers() {
    let beams = translator(&Options::default());
    let greedy = beams.with_options(&greedy().max_new_tokens(2)).unwrap();
    assert_eq!(beams.translate("The cat is sleeping.").unwrap().text, "Le chat dort.");
    assert_eq!(greedy.translate("The cat is sleeping.").unwrap().tokens.len(), 2);
    assert_eq!(beams.stats().finished, 2);
    assert!(beams.with_options(&Options::new().beams(0)).is_err());
}

#[test]
fn pieces_are_the_translation() {
    for beams in [1, 4] {
        let translator = translator(&Options::new().beams(beams));
        let text = "She has been living in Paris for ten years, and her brother lives in London.";
        let expected = translator.translate(text).unwrap();
        let mut stream = translator.stream(text).unwrap();
        let pieces: Vec<_> = stream.by_ref().collect();
        assert!(pieces.len() > 2, "{} pieces with {beams} beams", pieces.len());
        assert_eq!(pieces.iter().map(|piece| &piece.text[..]).collect::<String>(), expected.text);
        let tokens: Vec<String> = pieces.iter().flat_map(|piece| piece.tokens.clone()).collect();
        assert_eq!(tokens, expected.tokens);
        assert_eq!(stream.finish().unwrap(), expected);
        let blank = translator.stream("  ").unwrap();
        assert_eq!(blank.finish().unwrap().text, "");
    }
}
