from .answer import main

main()
