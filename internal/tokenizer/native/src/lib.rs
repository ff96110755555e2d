include!(concat!(env!("DAULET_TOKENIZERS_DIR"), "/src/lib.rs"));
