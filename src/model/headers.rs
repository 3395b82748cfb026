//! A list of headers whose memory goes from record to record although each list borrows from its own.

use super::record::Header;

/// Keeps the memory between two lists.
#[derive(Default)]
pub struct HeaderBuffer {
    empty: Vec<Header<'static>>,
}

impl HeaderBuffer {
    /// An empty list with the memory of the last one.
    pub fn lend<'a>(&mut self) -> Vec<Header<'a>> {
        std::mem::take(&mut self.empty)
    }

    /// Takes the memory back. Collecting in place is what makes this free: the standard library
    /// reuses a vector's memory when it is collected into one of the same layout.
    pub fn put_back(&mut self, mut list: Vec<Header<'_>>) {
        list.clear();
        self.empty =
            list.into_iter().map(|_| -> Header<'static> { unreachable!("the list is empty") }).collect();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_memory_survives_a_list_that_borrows_from_elsewhere() {
        let mut buffer = HeaderBuffer::default();
        let place = {
            let name = String::from("short-lived");
            let mut list = buffer.lend();
            list.extend([Header { name: &name, value: None }; 20]);
            let place = list.as_ptr() as usize;
            buffer.put_back(list);
            place
        };
        let list = buffer.lend();
        assert_eq!((list.as_ptr() as usize, list.len()), (place, 0));
        assert!(list.capacity() >= 20);
    }
}
