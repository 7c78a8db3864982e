"""The page "ask the memory in the browser": `python -m live FOLDER` trains a memory, exports it and adds what runs it.

`__main__` puts the files of the page together, `memory` trains on `facts.jsonl`, `graph` makes the ONNX graph of
backbone and router, `verify` compares its answers with those of the package, `npm` takes the libraries of the browser.
`ask.html`, `ask.js` and `ask.css` are the page itself.
"""
